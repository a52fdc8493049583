package effect

import (
	"fmt"
	"strings"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// What people wrote goes into a chat as plain text only: no formatting, no mention and
// no link of theirs. The links are ours.

// maxChatItems bounds the items of one chat message.
const maxChatItems = 15

type object = map[string]any

// slack is a message of an incoming webhook. Text that people wrote stands in plain_text,
// which Slack does not read for mentions or links.
func (c channels) slack(d keeper.Delivery) any {
	items, more := chatItems(d)
	blocks := []object{{"type": "section", "text": object{"type": "plain_text", "text": headline(d), "emoji": false}}}
	for _, i := range items {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "plain_text", "text": i.Text, "emoji": false}},
			object{"type": "context", "elements": []object{{"type": "mrkdwn", "text": "<" + slackEscape(c.link(i)) + "|Open>", "verbatim": true}}})
	}
	if more > 0 {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "plain_text", "text": fmt.Sprintf("and %d more", more), "emoji": false}})
	}
	blocks = append(blocks, object{"type": "context", "elements": []object{{"type": "plain_text", "text": d.ID, "emoji": false}}})
	return object{"text": slackEscape(headline(d)), "blocks": blocks, "unfurl_links": false, "unfurl_media": false}
}

// slackEscape escapes what Slack reads in mrkdwn.
func slackEscape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// teams is an adaptive card for a workflow's webhook. A TextRun, unlike a TextBlock, is
// not read as Markdown.
func (c channels) teams(d keeper.Delivery) any {
	items, more := chatItems(d)
	run := func(text string, rest object) object {
		r := object{"type": "TextRun", "text": text}
		for k, v := range rest {
			r[k] = v
		}
		return object{"type": "RichTextBlock", "inlines": []object{r}}
	}
	body := []object{run(headline(d), object{"weight": "Bolder"})}
	for _, i := range items {
		body = append(body, run(i.Text, nil), object{"type": "ActionSet", "actions": []object{{"type": "Action.OpenUrl", "title": "Open", "url": c.link(i)}}})
	}
	if more > 0 {
		body = append(body, run(fmt.Sprintf("and %d more", more), nil))
	}
	body = append(body, run(d.ID, object{"size": "Small", "isSubtle": true}))
	card := object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body}
	return object{"type": "message", "attachments": []object{{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}}}
}

func chatItems(d keeper.Delivery) ([]keeper.DeliveryItem, int) {
	n := min(len(d.Items), maxChatItems)
	return d.Items[:n], len(d.Items) - n + d.More
}
