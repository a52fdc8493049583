package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// scim METHOD PATH [BODY] is a directory's provisioning service: it writes with the
// token in the file token, and shows what it is answered. A refusal fails.
func scim() {
	token, err := os.ReadFile("token")
	if err != nil {
		screen{}.Fatal(err)
	}
	body := strings.Join(os.Args[3:], " ")
	r, err := http.NewRequest(os.Args[1], os.Getenv("LOCKKEEPER_SERVER")+"/scim/v2"+os.Args[2], strings.NewReader(body))
	if err != nil {
		screen{}.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Content-Type", "application/scim+json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		screen{}.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if fmt.Println(resp.StatusCode, string(answer)); err != nil || resp.StatusCode >= 300 {
		os.Exit(1)
	}
}
