package api

// ChecklistItem is an item of the checklist of a security review.
type ChecklistItem struct {
	Item string `json:"item"`
	Ask  string `json:"ask" doc:"what yes stands for"`
}

// ReviewAnswer is a reviewer's word on one item of a checklist.
type ReviewAnswer struct {
	Item    string `json:"item" maxLength:"63"`
	Ask     string `json:"ask" maxLength:"500" doc:"the item's text as it was shown; an answer to other words is refused"`
	Yes     bool   `json:"yes"`
	Comment string `json:"comment,omitempty" maxLength:"500"`
}
