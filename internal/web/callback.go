package web

import (
	"io"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
)

// maxCallback bounds what a service answers at its address.
const maxCallback = 64 << 10

// callback takes what a service answers later. Its address is what proves it, and
// nothing of that is logged: a line of the log names the route.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
	if err != nil {
		err = lockkeeper.Invalid.Errorf("answer_unfit", "The answer could not be read, or has more than %d bytes.", maxCallback).WithNext("Post one JSON document of at most 64 KiB.")
	} else {
		err = s.Keeper.Callback(r.Context(), r.PathValue("token"), data)
	}
	if err != nil {
		writeProblem(w, s.problem(r.Context(), err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
