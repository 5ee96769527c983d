// The form of a comparison grid stays as it is; what can be chosen comes with the refresh and is brought to it, with what was chosen before.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const form = () => page().querySelector(".finetune-grid-form");
    let chosen = null;  // null: what the server proposes
    let shown = "";

    const boxes = () => [...form()?.querySelectorAll(".finetune-grid-list input[type=checkbox]") || []];
    const numbers = (name) => form().querySelector(`[data-field=${name}]`).value.split(/[,;]/).filter((part) => part.trim()).length;

    // How many images it will be: columns times rows.
    function count() {
        if (!form()) return;
        const checked = boxes().filter((box) => box.checked);
        form().querySelector("[data-field=chosen]").value = checked.map((box) => box.value).join(" ");
        const columns = checked.reduce((sum, box) => sum + (box.dataset.weights ? 1 : numbers("weights")), 0);
        const prompts = form().querySelector("[data-field=prompts]").value.split("\n").filter((line) => line.trim()).length || 1;
        const rows = prompts * (numbers("seeds") || 2);
        const text = checked.length ? `${columns} columns × ${rows} rows = ${columns * rows} images` : "Choose at least one result or snapshot.";
        const place = form().querySelector(".finetune-grid-count");
        if (place.dataset.shown === text) return;
        place.dataset.shown = text;
        place.textContent = text;
    }

    // Without a choice of the person's, the newest result stands beside the base.
    function bring(source) {
        const choices = source.querySelector(".finetune-grid-choices");
        if (!choices || !form() || shown === choices.innerHTML) return;
        shown = choices.innerHTML;
        const list = form().querySelector(".finetune-grid-list");
        list.replaceChildren(...choices.cloneNode(true).childNodes);
        const first = list.querySelector(".finetune-grid-result input");
        if (chosen) for (const box of boxes()) box.checked = chosen.has(box.value);
        else if (first) first.checked = true;
        count();
    }

    document.addEventListener("input", (event) => {
        if (!event.target.closest?.(".finetune-grid-form")) return;
        if (event.target.type === "checkbox") chosen = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
        count();
    });

    // What an earlier grid was made with goes into the form.
    document.addEventListener("click", (event) => {
        const button = event.target.closest?.(".finetune-use-choices");
        if (!button) return;
        const grid = JSON.parse(button.dataset.grid);
        for (const name of ["weights", "seeds", "prompts"]) form().querySelector(`[data-field=${name}]`).value = grid[name];
        chosen = new Set(grid.chosen);
        for (const box of boxes()) box.checked = chosen.has(box.value);
        count();
        form().scrollIntoView({block: "nearest"});
        form().querySelector("[data-field=prompts]").focus({preventScroll: true});
    });

    // The place is there when the tab has been built, which is some time after this script.
    const waiting = setInterval(() => {
        const source = page().querySelector("#finetune_grid_choices");
        if (!source || !form()) return;
        clearInterval(waiting);
        bring(source);
        new MutationObserver(() => bring(source)).observe(source, {childList: true, subtree: true});
    }, 1000);
})();
