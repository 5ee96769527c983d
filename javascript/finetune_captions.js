// Captions of many images: tiles are chosen by their boxes, a tag by a click. The images are shown anew after each change; what was
// chosen, opened and typed comes back then.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const gallery = () => page().querySelector("#finetune_gallery");
    const chosen = new Set();
    const typed = {};
    let opened = false;

    function show() {
        const root = gallery();
        if (!root) return;
        const boxes = [...root.querySelectorAll(".finetune-choose input")];
        const there = new Set(boxes.map((box) => box.value));
        for (const token of [...chosen]) if (boxes.length && !there.has(token)) chosen.delete(token);
        for (const box of boxes) {
            box.checked = chosen.has(box.value);
            box.closest(".finetune-tile").classList.toggle("finetune-chosen-tile", box.checked);
        }
        const field = root.querySelector("[data-field=chosen]");
        if (field) field.value = [...chosen].join(" ");
        const count = root.querySelector(".finetune-chosen-count");
        const text = chosen.size ? `in ${chosen.size} chosen images` : count?.dataset.all;
        if (count && count.dataset.shown !== text) {
            count.dataset.shown = text;
            count.textContent = text;
        }
    }

    function restore() {
        const root = gallery();
        const part = root?.querySelector(".finetune-captions");
        if (part && part.open !== opened) part.open = opened;
        for (const field of root?.querySelectorAll("[data-keep]") || []) {
            if (typed[field.dataset.keep] !== undefined && field.value !== typed[field.dataset.keep]) field.value = typed[field.dataset.keep];
        }
        show();
    }

    document.addEventListener("change", (event) => {
        const box = event.target.closest?.(".finetune-choose input");
        if (!box) return;
        if (box.checked) chosen.add(box.value);
        else chosen.delete(box.value);
        show();
    });
    document.addEventListener("input", (event) => {
        const field = event.target.closest?.("#finetune_gallery [data-keep]");
        if (field) typed[field.dataset.keep] = field.value;
    });
    document.addEventListener("toggle", (event) => {
        if (event.target.matches?.(".finetune-captions")) opened = event.target.open;
    }, true);
    document.addEventListener("click", (event) => {
        const tag = event.target.closest?.(".finetune-tag");
        if (!tag) return;
        const field = gallery().querySelector("[data-field=text]");
        field.value = typed.text = tag.dataset.tag;
        field.focus();
    });

    const waiting = setInterval(() => {
        const root = gallery();
        if (!root) return;
        clearInterval(waiting);
        new MutationObserver(restore).observe(root, {childList: true});
        for (const child of root.children) new MutationObserver(restore).observe(child, {childList: true, subtree: false});
        restore();
    }, 1000);
})();
