// Package rego compiles, evaluates and tests policies in Rego. It is the only package
// that knows OPA.
//
// A policy is one module of Rego v1 in a package of its own. It sees input and nothing
// else: what it may call is a list (builtins) of pure functions, so that equal input gives
// an equal verdict, whenever and wherever it is evaluated. Input has a schema, and what
// the schema does not have is an error of the policy, found when it is compiled.
//
// Its result is strict:
//
//   - deny, a set or array of sentences: any of them refuses;
//   - wait, the same: any of them holds up, unless something refuses;
//   - allow, true or not: if the policy has the rule, it must be true.
//
// It has deny or allow or both. Whatever else comes of it, a value of another type, an
// error of a function, too much output, the deadline, is no pass and no refusal with a
// reason, but an Error.
//
// What bounds an evaluation: the bytes of text and input, a deadline, the memory that
// the process takes meanwhile, and how many run at once. What cannot be ended in its own
// process, because one function of Rego does not return, is ended with a process of its own
// (Isolated), which is what a server uses. An Evaluator is for a command of a person.
package rego
