// The settings: sections, search, changed ones as chips, what an empty field stands for, and messages at the fields.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const part = (name) => page().querySelector(`#finetune_${name}`);
    const CHANGE_MS = 500;
    let section = "learning";
    let known = null;  // element id → what is to be known of its field
    let values = "";
    let looked = 0;
    let checked = "";
    let marked = "";

    const fieldOf = (block) => block?.querySelector("textarea, input");
    const valueOf = (field) => (field.type === "checkbox" ? field.checked : field.value);

    function facts() {
        const holder = page().querySelector("#finetune_defaults");
        if (!known && holder) {
            known = JSON.parse(holder.dataset.defaults);
            for (const [name, about] of Object.entries(known)) {
                const field = fieldOf(page().querySelector(`#${name}`));
                if (about.number && field) field.inputMode = "decimal";
                for (const slider of page().querySelectorAll(`#${name} input[type=number]`)) slider.setAttribute("aria-label", about.label);
            }
        }
        return known || {};
    }

    // Sections, of which one is open; while something is looked for, whatever matches is shown.
    function wantedIn(block, about, words) {
        const text = `${block.textContent} ${about.label} ${about.path} ${about.aliases}`.toLowerCase();
        return words.every((word) => text.includes(word));
    }
    // "lr" is a part of many words: what begins with it comes first, and alone where there is some.
    function matches(query) {
        const words = query.toLowerCase().split(/\s+/).filter(Boolean);
        const all = Object.entries(facts()).filter(([name, about]) => {
            const block = page().querySelector(`#${name}`);
            return block && !block.classList.contains("finetune-off") && wantedIn(block, about, words);
        });
        const begins = (text, word) => text.toLowerCase().split(/[^a-z0-9]+/).some((one) => one.startsWith(word));
        const named = all.filter(([, about]) => words.every((word) => begins(`${about.label} ${about.aliases}`, word)));
        return new Set((named.length ? named : all).map(([name]) => name));
    }
    const applies = (name) => !page().querySelector(`#${name}`)?.classList.contains("finetune-off");
    function arrange() {
        const query = part("find")?.value.trim() || "";
        const wanted = query ? matches(query) : null;
        const there = new Set();
        for (const [name, about] of Object.entries(facts())) {
            if (applies(name)) there.add(about.section);
            page().querySelector(`#${name}`)?.classList.toggle("finetune-away", wanted ? !wanted.has(name) : about.section !== section);
        }
        for (const pill of page().querySelectorAll(".finetune-pill")) {
            pill.setAttribute("aria-selected", String(!wanted && pill.dataset.section === section));
            pill.hidden = !there.has(pill.dataset.section);
        }
        const none = page().querySelector("#finetune_none_found");
        if (none) none.hidden = !wanted || wanted.size > 0;
        part("fields")?.classList.add("finetune-arranged");
    }
    function openSectionOf(block) {
        const about = facts()[block.id];
        if (!about) return;
        part("find").value = "";
        section = about.section;
        arrange();
    }
    document.addEventListener("click", (event) => {
        const pill = event.target.closest?.(".finetune-pill");
        if (!pill) return;
        part("find").value = "";
        section = pill.dataset.section;
        arrange();
    });
    document.addEventListener("input", (event) => {
        if (event.target.id === "finetune_find") arrange();
    });
    document.addEventListener("keydown", (event) => {
        if (event.target.id !== "finetune_find") return;
        if (event.key === "Escape") {
            event.target.value = "";
            arrange();
        } else if (event.key === "Enter") {
            event.preventDefault();
            const first = page().querySelector("#finetune_fields .block:not(.finetune-away):not(.finetune-off)");
            const field = fieldOf(first);
            field?.focus();
            field?.select?.();
        }
    });

    // Settings that differ from their defaults are marked, and stand as chips that bring the default back.
    function markChanged() {
        const chips = page().querySelector("#finetune_chips");
        if (!chips) return;
        const changed = [];
        const now = [];
        for (const [name, about] of Object.entries(facts())) {
            const block = page().querySelector(`#${name}`);
            const field = fieldOf(block);
            if (!field) continue;
            const value = String(valueOf(field));
            now.push(value);
            const differs = value !== String(about.value) && !block.classList.contains("finetune-off");
            block.classList.toggle("finetune-changed", differs);
            if (differs) changed.push([name, about, value]);
        }
        const state = JSON.stringify(changed.map(([name, , value]) => [name, value]));
        if (state !== marked) {
            marked = state;
            chips.replaceChildren(...changed.map(chip));
        }
        return JSON.stringify(now);
    }
    function chip([name, about, value]) {
        const holder = document.createElement("span");
        holder.className = "finetune-chip";
        const label = document.createElement("button");
        label.type = "button";
        label.className = "finetune-chip-label";
        label.dataset.element = name;
        label.textContent = about.label;
        label.title = value;
        const reset = document.createElement("button");
        reset.type = "button";
        reset.className = "finetune-reset finetune-do";
        reset.dataset.do = "default";
        reset.dataset.given = JSON.stringify({path: about.path});
        reset.textContent = "×";
        reset.title = "back to the default";
        reset.setAttribute("aria-label", "back to the default");
        holder.append(label, reset);
        return holder;
    }
    document.addEventListener("click", (event) => {
        const label = event.target.closest?.(".finetune-chip-label");
        if (label) goToField(page().querySelector(`#${label.dataset.element}`));
    });

    function goToField(block) {
        if (!block) return;
        openSectionOf(block);
        block.scrollIntoView({block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
        fieldOf(block)?.focus({preventScroll: true});
    }

    // What does not apply is not there; what an empty field stands for; what is wrong stands at its field.
    function readChecked() {
        const holder = part("checked")?.querySelector("[data-checked]");
        if (!holder || holder.dataset.checked === checked) return;
        checked = holder.dataset.checked;
        const told = JSON.parse(checked);
        for (const [name, about] of Object.entries(facts())) {
            const block = page().querySelector(`#${name}`);
            if (!block) continue;
            if (told.off) block.classList.toggle("finetune-off", told.off.includes(name));
            const field = fieldOf(block);
            if (field && about.value === "" && field.type !== "checkbox") {
                field.placeholder = told.auto[name] ? `auto: ${told.auto[name]}` : field.placeholder.startsWith("auto") ? "auto" : field.placeholder;
            }
            say(block, told.problems[name] || "");
        }
        arrange();
    }
    function say(block, text) {
        let message = block.querySelector(".finetune-field-message");
        block.classList.toggle("finetune-wrong", Boolean(text));
        fieldOf(block)?.setAttribute("aria-invalid", String(Boolean(text)));
        if (!text) {
            message?.remove();
            return;
        }
        if (!message) {
            message = document.createElement("div");
            message.className = "finetune-field-message";
            message.setAttribute("role", "alert");
            block.append(message);
        }
        if (message.textContent !== text) message.textContent = text;
    }

    // Train was refused: each message stands at its field as well, and the first of them is gone to.
    let refused = null;
    function readRefusal() {
        const lines = part("message")?.querySelectorAll("[data-field]");
        const state = part("message")?.innerHTML || "";
        if (state === refused) return;
        refused = state;
        let first = null;
        for (const line of lines || []) {
            const block = page().querySelector(`#${line.dataset.field}`);
            if (!block) continue;
            say(block, line.textContent);
            first = first || block;
        }
        if (first) goToField(first);
    }
    document.addEventListener("input", (event) => {
        const block = event.target.closest?.(".finetune-wrong");
        if (block) say(block, "");
    });

    function onChange() {
        const now = markChanged();
        if (now === undefined || now === values) return;
        const first = values === "";
        values = now;
        if (first) return;
        clearTimeout(looked);
        looked = setTimeout(() => part("look")?.click(), CHANGE_MS);
    }
    for (const name of ["input", "change", "focusout", "click"]) {
        document.addEventListener(name, (event) => {
            if (event.target.closest?.("#finetune_more")) setTimeout(onChange, 50);
        });
    }

    setInterval(() => {
        if (document.hidden || !part("more") || part("root")?.offsetParent === null) return;
        facts();
        if (!part("fields").classList.contains("finetune-arranged")) arrange();
        readChecked();
        readRefusal();
        onChange();
    }, 400);
})();
