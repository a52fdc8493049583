// Package catalog turns governance documents into a validated catalog: all
// governance resources at one revision.
//
// # Guarantees
//
// A *Catalog that Read or Compile returns obeys every rule of this package:
// references lead somewhere, names are fit, gates can be passed, no two stages
// can be mistaken for each other, an environment has at most one identity. It
// never changes afterwards. Everything that is wrong is reported at once, with
// file, line, column and the way to mend it, and no report repeats a value that
// looks like a secret. Input costs bounded time and memory, whatever it is:
// 4 MiB a file, 16 MiB in all, 10,000 documents, 1 MiB a document, 32 levels.
//
// # Format
//
// A file holds YAML documents parted by lines of ---, or JSON values if its
// name ends in .json. Each is a mapping with the field kind and the fields of
// the Go type of that name, by their JSON tags. Reading is strict: no unknown
// or repeated field, no empty value, no anchor, alias, tag or merge key; true
// and false are the only booleans; a text that some reader of YAML would take
// for something else must be in quotes, except plain digits, which are taken as
// they are written (ids). Values of Duration are 1h30m, instants RFC 3339.
//
// A Document is what the journal keeps of a resource: the canonical JSON
// (RFC 8785) of its fields with kind, absent where they are zero. The digest of
// a document is the SHA-256 of these bytes. The digest of a catalog is the
// SHA-256 of the line "lockkeeper.catalog.v1" and then, for each document in
// the order of kind, project and name, its digest on a line. Compile reads
// every document that any release ever wrote.
//
// # What it does not know
//
// Who may do what (package access), whether a gate opens (package gate), the
// present time, and whether ids on a platform exist there.
package catalog
