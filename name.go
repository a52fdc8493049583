package lockkeeper

import "fmt"

// MaxName is the longest name, in bytes, of anything that a catalog names.
const MaxName = 63

// CheckName reports whether s may name a resource: 1 to 63 bytes of lower-case
// letters, digits, '-', '.' and '_', beginning and ending with a letter or a
// digit, without "..". Names stand in scopes, in file names and in tokens, so
// they hold no slash, no upper case and nothing that needs escaping.
func CheckName(s string) error {
	if s == "" {
		return fmt.Errorf("a name is missing")
	}
	if len(s) > MaxName {
		return fmt.Errorf("the name has %d bytes, more than %d", len(s), MaxName)
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if alnum {
			continue
		}
		if c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("the name %q has %q; use lower-case letters, digits, '-', '.' and '_'", s, c)
		}
		if i == 0 || i == len(s)-1 {
			return fmt.Errorf("the name %q must begin and end with a letter or a digit", s)
		}
		if c == '.' && s[i-1] == '.' {
			return fmt.Errorf("the name %q has two dots in a row", s)
		}
	}
	return nil
}
