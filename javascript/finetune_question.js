// A question that lists what goes: asked of the server when the button is pressed, answered in a dialog.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);

    function size(bytes) {
        for (const [unit, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "KB"]]) {
            if (bytes >= unit) return `${(bytes / unit).toFixed(1)} ${name}`;
        }
        return `${bytes} bytes`;
    }

    function element(name, text, kind) {
        const made = document.createElement(name);
        if (text !== undefined) made.textContent = text;
        if (kind) made.className = kind;
        return made;
    }

    function list(told) {
        const table = element("table", undefined, "finetune-table");
        for (const part of told.parts) {
            const row = table.insertRow();
            row.append(element("td", part.what), element("td", String(part.count)), element("td", size(part.bytes)));
        }
        const sum = table.insertRow();
        sum.append(element("th", "In all"), element("th", ""), element("th", size(told.bytes)));
        return table;
    }

    function dialogOf(button, told) {
        const dialog = element("dialog", undefined, "finetune-dialog finetune-question-dialog");
        const title = element("h3", "Delete everything of this training?");
        title.id = "finetune_question_title";
        dialog.setAttribute("aria-labelledby", title.id);
        const name = element("p", told.name);
        name.setAttribute("translate", "no");
        const buttons = element("div", undefined, "finetune-row");
        const cancel = element("button", "Keep it", "finetune-dialog-close");
        const go = element("button", "Delete", "sm primary gradio-button finetune-do");
        cancel.type = go.type = "button";
        go.dataset.do = "delete training";
        go.dataset.given = JSON.stringify({job: button.dataset.job});
        for (const each of [cancel, go]) each.addEventListener("click", () => dialog.close());
        dialog.addEventListener("close", () => setTimeout(() => dialog.remove(), 0));
        dialog.addEventListener("keydown", (event) => event.stopPropagation());  // the WebUI has keys of its own
        buttons.append(cancel, go);
        dialog.append(title, name, list(told), ...told.stays.map((sentence) => element("p", sentence)), element("p", "This cannot be undone."), buttons);
        page().querySelector("#finetune_root").append(dialog);
        dialog.showModal();
        cancel.focus();
    }

    document.addEventListener("click", async (event) => {
        const button = event.target.closest?.(".finetune-question");
        if (!button || button.disabled) return;
        button.disabled = true;
        try {
            const answer = await fetch(button.dataset.question);
            const told = await answer.json();
            if (!answer.ok) throw new Error(told.detail?.[0]?.message || String(answer.status));
            dialogOf(button, told);
        } catch (error) {
            button.title = error.message;
            button.textContent = "The list could not be fetched. Reload the page.";
        } finally {
            button.disabled = false;
        }
    });
})();
