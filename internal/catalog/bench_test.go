package catalog

import (
	"fmt"
	"strings"
	"testing"
)

// company writes a catalog of n users, n/10 groups and 5n assignments.
func company(n int) File {
	b := new(strings.Builder)
	b.WriteString("{kind: Project, name: p}\n")
	for i := range n {
		fmt.Fprintf(b, "---\nkind: User\nname: u%d\ntitle: User number %d\n", i, i)
	}
	for i := range n / 10 {
		fmt.Fprintf(b, "---\nkind: Group\nname: g%d\nusers: [u%d, u%d, u%d]\n", i, i, i+1, i+2)
	}
	for i := range 5 * n {
		fmt.Fprintf(b, "---\nkind: Assignment\nname: a%d\nrole: developer\nprincipal: user:u%d\nscope: /projects/p\n", i, i%n)
	}
	return File{"company.yaml", []byte(b.String())}
}

func BenchmarkRead(b *testing.B) {
	f := company(1000)
	b.SetBytes(int64(len(f.Data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, p := Read([]File{f}); p != nil {
			b.Fatal(p)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	var documents [][]byte
	for _, d := range mustRead(b, company(1000)).Documents() {
		documents = append(documents, d.Data)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(documents); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStageOf(b *testing.B) {
	c, job := mustRead(b, base(b)), deployJob()
	b.ReportAllocs()
	for b.Loop() {
		c.StageOf(job)
	}
}
