package rego

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// One function of Rego over a value that was made to be large in few words does not
// return, and no context ends it. So a server compiles and evaluates in a process of its
// own, which has nothing of the server's: it is handed a text and an input, says what
// came of it, ends itself when it takes too much memory, and is killed when it takes too
// long. It ends with the server, whose end closes its standard input.

// A task is what the process is asked: to evaluate, or to compile with the tests.
type task struct {
	Text    string `json:"text"`
	Tests   string `json:"tests,omitempty"`
	Input   []byte `json:"input,omitempty"`
	Compile bool   `json:"compile,omitempty"`
}

// A result is what it answers.
type result struct {
	Outcome  Outcome   `json:"outcome"`
	Problems []Problem `json:"problems,omitempty"`
}

// Bounds of the process.
const (
	startPatience = 20 * time.Second // until it has begun, on a machine that is busy
	tooLarge      = 7                // its exit code when it took too much memory
	maxResult     = 4 << 20          // bytes
)

// Serve is the process: it reads tasks and writes results until in ends.
func Serve(in io.Reader, out io.Writer) error {
	e := NewEvaluator()
	e.over = func() { os.Exit(tooLarge) }
	read, write := json.NewDecoder(in), json.NewEncoder(out)
	if err := write.Encode(result{}); err != nil { // it has begun
		return err
	}
	for {
		var t task
		if err := read.Decode(&t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var r result
		if t.Compile {
			_, r.Problems = compile(t.Text, t.Tests)
		} else {
			r.Outcome = e.Evaluate(context.Background(), t.Text, t.Input)
		}
		if err := write.Encode(r); err != nil {
			return err
		}
	}
}

// An Isolated evaluates policies in a process of its own, one after the other.
type Isolated struct {
	command  []string // program, and what it is called with, its name first
	deadline time.Duration
	turn     chan struct{}

	mu    sync.Mutex
	child *child
}

type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	results chan result // closed when it has ended
}

// NewIsolated makes an evaluator whose process is path, called with args, of which the
// first is its name. It must come to Serve. It begins with the first task.
func NewIsolated(path string, args ...string) *Isolated {
	return &Isolated{command: append([]string{path}, args...), deadline: Deadline, turn: make(chan struct{}, 1)}
}

// Close ends the process.
func (i *Isolated) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.child != nil {
		i.child.kill()
		i.child = nil
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	c.in.Close()
}

// start begins the process, without the server's environment.
func (i *Isolated) start() (*child, error) {
	cmd := &exec.Cmd{Path: i.command[0], Args: i.command[1:], Env: []string{"LOCKKEEPER_POLICY_WORKER=1"}}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, in: in, results: make(chan result)}
	go func() {
		defer close(c.results)
		defer func() { _ = cmd.Wait() }() // how it ended is told by ProcessState
		lines := bufio.NewScanner(out)
		lines.Buffer(make([]byte, 0, 64<<10), maxResult)
		for lines.Scan() {
			var r result
			if json.Unmarshal(lines.Bytes(), &r) != nil {
				break
			}
			c.results <- r
		}
		_ = cmd.Process.Kill()
	}()
	select {
	case _, begun := <-c.results:
		if begun {
			return c, nil
		}
		return nil, errors.New("the process for policies ended at once")
	case <-time.After(startPatience):
		c.kill()
		go c.drain()
		return nil, errors.New("the process for policies did not begin")
	}
}

// drain lets the reader of a process that was killed come to its end.
func (c *child) drain() {
	for range c.results {
	}
}

// Evaluate gives the verdict of a policy's text over input. It returns within the
// deadline and a little, and whatever the policy did is over then.
func (i *Isolated) Evaluate(ctx context.Context, text string, input []byte) Outcome {
	r, bad := i.ask(ctx, task{Text: text, Input: input})
	if bad != nil {
		return *bad
	}
	return r.Outcome
}

// Problems is what is wrong with the policies of a catalog.
func (i *Isolated) Problems(ctx context.Context, c *catalog.Catalog) catalog.Problems {
	return problems(c, func(text, tests string) []Problem {
		r, bad := i.ask(ctx, task{Text: text, Tests: tests, Compile: true})
		if bad != nil {
			return []Problem{{Line: 1, Column: 1, Code: bad.Code, Sentence: bad.Sentence, Mend: "Write a smaller policy, or try again."}}
		}
		return r.Problems
	})
}

// ask puts one task to the process, or says why there is no result.
func (i *Isolated) ask(ctx context.Context, t task) (result, *Outcome) {
	fail := func(code, format string, args ...any) (result, *Outcome) {
		o := failed(code, format, args...)
		return result{}, &o
	}
	b, err := json.Marshal(t)
	if err != nil {
		return fail("policy_input_broken", "The input is no JSON.")
	}
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return fail(Busy, "Other policies are being evaluated.")
	}
	c, err := i.running()
	if err != nil {
		return fail(Away, "The process in which policies are evaluated cannot be begun.")
	}
	late := time.NewTimer(i.deadline + grace)
	defer late.Stop()
	sent := make(chan error, 1)
	go func() { // a process that reads nothing holds up nobody but itself
		_, err := c.in.Write(append(b, '\n'))
		sent <- err
	}()
	defer func() { <-sent }()
	select {
	case r, alive := <-c.results:
		if alive {
			return r, nil
		}
		i.forget(c)
		if c.cmd.ProcessState != nil && c.cmd.ProcessState.ExitCode() == tooLarge {
			return fail("policy_memory", "The policy took more than %d MiB of memory.", maxMemory>>20)
		}
		return fail("policy_broken", "The evaluation of the policy broke off.")
	case <-late.C:
		i.forget(c)
		return fail("policy_timeout", "The policy took longer than %s, and its process was ended.", i.deadline)
	case <-ctx.Done():
		i.forget(c)
		return fail(Busy, "The server is ending.")
	}
}

// running is the process, begun if there is none.
func (i *Isolated) running() (*child, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.child != nil {
		return i.child, nil
	}
	c, err := i.start()
	if err == nil {
		i.child = c
	}
	return c, err
}

// forget ends a process that is of no use any more.
func (i *Isolated) forget(c *child) {
	i.mu.Lock()
	if i.child == c {
		i.child = nil
	}
	i.mu.Unlock()
	c.kill()
	go c.drain()
}
