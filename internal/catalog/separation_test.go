package catalog

import "testing"

func TestSeparationsAreRefused(t *testing.T) {
	for fields, code := range map[string]string{
		"scope: /, mode: hold, actions: [[deployments/start], [deployments/approve]]":                       "",
		"scope: /, mode: use, actions: [[deployments/start], [deployments/approve], [activations/approve]]": "",
		"scope: /, mode: hold, actions: [[deployments/*], [access/*, '*/export']]":                          "",
		"scope: /projects/q, mode: hold, actions: [[deployments/start], [deployments/approve]]":             "unknown_project",
		"scope: /, mode: both, actions: [[deployments/start], [deployments/approve]]":                       "value_unknown",
		"scope: /, actions: [[deployments/start], [deployments/approve]]":                                   "value_unknown",
		"scope: /, mode: hold":                                                                   "field_missing",
		"scope: /, mode: hold, actions: [[deployments/start]]":                                   "duties_missing",
		"scope: /, mode: hold, actions: [[deployments/start], []]":                               "field_missing",
		"scope: /, mode: hold, actions: [deployments/start, deployments/approve]":                "wrong_type",
		"scope: /, mode: hold, actions: [[deployments/start], [deployments/eat]]":                "unknown_action",
		"scope: /, mode: hold, actions: [[deployments/start], ['*/start']]":                      "duties_overlap",
		"scope: /, mode: use, actions: [[deployments/start], [journal/read]]":                    "duty_unused",
		"scope: /, mode: hold, actions: [[a/b],[a/c],[a/d],[a/e],[a/f],[a/g],[a/h],[a/i],[a/j]]": "too_many_entries",
	} {
		_, problems := Read([]File{{"x.yaml", []byte("{kind: Separation, name: s, " + fields + "}")}})
		found := code == "" && len(problems) == 0
		for _, p := range problems {
			found = found || p.Code == code && p.Mend != ""
		}
		if !found {
			t.Errorf("%s: %v, want %q", fields, problems, code)
		}
	}
}
