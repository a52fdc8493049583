// Command lockkeeper is Lockkeeper: the server, and the commands of people and
// pipelines.
package main

import (
	"os"

	"github.com/lockkeeper/lockkeeper/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
