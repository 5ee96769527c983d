// The forms of the tools stay as they are; what became of a tool comes with the refresh and is brought to its form. What is wrong with a
// field is said beneath, and the field is marked and looked at.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);

    function mark(form) {
        const wrong = new Set([...form.querySelectorAll("[data-wrong]")].map((each) => each.dataset.wrong));
        const fields = [...form.querySelectorAll("[data-field]")];
        for (const field of fields) {
            const faulty = wrong.has(field.dataset.field);
            field.closest(".finetune-tool-field")?.classList.toggle("finetune-wrong", faulty);
            field.setAttribute("aria-invalid", String(faulty));
        }
        const first = fields.find((field) => wrong.has(field.dataset.field));
        first?.scrollIntoView({block: "nearest"});
        first?.focus({preventScroll: true});
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
        const answers = page().querySelector("#finetune_about");
        if (!answers) return;
        clearInterval(waiting);
        bring(answers);
        new MutationObserver(() => bring(answers)).observe(answers, {childList: true, subtree: true});
    }, 1000);

    // Enter presses the button of its form.
    document.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || !event.target.matches?.(".finetune-tool input")) return;
        event.preventDefault();
        event.target.closest(".finetune-tool").querySelector(".finetune-do")?.click();
    });
})();
