package lockkeeper

import (
	"reflect"
	"testing"
)

// TestSubject binds every field of an ask but the stage and whether another job claims
// it: whoever adds a field has it bound, or says here why not.
func TestSubject(t *testing.T) {
	free := map[string]bool{"Stage": true, "Detached": true}
	plain, err := Ask{}.Subject()
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[Ask]().NumField() {
		var a Ask
		field, name := reflect.ValueOf(&a).Elem().Field(i), reflect.TypeFor[Ask]().Field(i).Name
		switch field.Kind() {
		case reflect.String:
			field.SetString("x")
		case reflect.Int:
			field.SetInt(2)
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Struct:
			field.Field(0).SetString("x")
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		case reflect.Map:
			field.Set(reflect.ValueOf(map[string]string{"x": "y"}))
		default:
			t.Fatalf("nobody says how to change %s", name)
		}
		other, err := a.Subject()
		if err != nil {
			t.Fatal(err)
		}
		if (other == plain) != free[name] {
			t.Errorf("another %s: the same subject is %v", name, other == plain)
		}
		if whole, _ := a.Digest(); whole == other {
			t.Errorf("another %s: the subject is the digest of the ask", name)
		}
	}
}
