// The forms of the tools, and that of a comparison grid, stay as they are; what became of one comes with the refresh and is brought to its form. What is wrong with a
// field is said at the field, which is marked and looked at.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);

    function mark(form) {
        const fields = [...form.querySelectorAll("[data-field]")];
        form.querySelectorAll(".finetune-field-message").forEach((message) => message.remove());
        const wrong = fields.filter((field) => {
            const message = form.querySelector(`.finetune-tool-answer [data-wrong="${field.dataset.field}"]`);
            const place = field.closest(".finetune-tool-field");
            if (!place) return false;
            place.classList.toggle("finetune-wrong", message !== null);
            field.setAttribute("aria-invalid", String(message !== null));
            if (!message) return false;
            message.querySelector("b")?.remove();  // the label stands above
            message.className = "finetune-field-message";
            message.setAttribute("role", "alert");
            place.append(message);
            return true;
        });
        const rest = form.querySelector(".finetune-tool-answer .finetune-problems");
        if (rest && !rest.textContent.trim()) rest.remove();
        wrong[0]?.scrollIntoView({block: "nearest"});
        wrong[0]?.focus({preventScroll: true});
    }

    const shown = {};
    function bring(answers) {
        for (const answer of answers.querySelectorAll("[data-answer]")) {
            const form = page().querySelector(`.finetune-tool[data-tool="${answer.dataset.answer}"]`);
            if (!form || shown[answer.dataset.answer] === answer.innerHTML) continue;
            shown[answer.dataset.answer] = answer.innerHTML;
            form.querySelector(".finetune-tool-answer").replaceChildren(...answer.cloneNode(true).childNodes);
            mark(form);
        }
    }

    // The place is there when the tab has been built, which is some time after this script.
    const waiting = setInterval(() => {
        const sources = ["about", "grid_choices"].map((name) => page().querySelector(`#finetune_${name}`));
        if (!sources.every(Boolean)) return;
        clearInterval(waiting);
        for (const answers of sources) {
            bring(answers);
            new MutationObserver(() => bring(answers)).observe(answers, {childList: true, subtree: true});
        }
    }, 1000);

    // Enter presses the button of its form.
    document.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || !event.target.matches?.(".finetune-tool input")) return;
        event.preventDefault();
        event.target.closest(".finetune-tool").querySelector(".finetune-do")?.click();
    });
})();
