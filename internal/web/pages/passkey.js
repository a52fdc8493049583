// Asks the authenticator for what the server wants to see, and brings it there.
const go = document.getElementById("go");
const said = document.getElementById("said");

async function show() {
  const options = JSON.parse(go.dataset.options);
  const credential = go.dataset.purpose === "register"
    ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
    : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
  const answer = await fetch("/passkeys/shown", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ceremony: go.dataset.ceremony, answer: credential.toJSON() }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.detail} ${body.next ?? ""} [${body.code}]`);
  if (body.location) {
    location.replace(body.location);
    return;
  }
  said.textContent = "Done. You may close this page.";
}

go.addEventListener("click", async () => {
  go.disabled = true;
  said.textContent = "";
  try {
    await show();
  } catch (problem) {
    said.textContent = `It did not work: ${problem.message} Load the page again to try once more.`;
  }
});
