// The WebUI translates a text of the page when it stands in the table (localizations/*.json) as it is. Many of ours have
// names and figures in them: their entries hold {} in those places, and here they are put together.
(function () {
    const ROOT = "#tab_finetune, #finetune_root";  // the latter where the page is the tab alone
    const TOLD = ["title", "placeholder", "aria-label", "data-sure"];
    let templates = null;

    function table() {
        return window.localization || {};
    }

    // Behind a letter stands the rest of a word: the s of a plural.
    function pattern(pieces) {
        const places = pieces.slice(1).map((piece, place) => (/[a-z]$/.test(pieces[place]) ? "(\\w*)" : "(.*?)") + piece);
        return new RegExp(`^${pieces[0]}${places.join("")}$`, "s");
    }

    // [pattern, translation], those that say most first, so that the general ones do not take what is meant for others.
    function known() {
        if (templates) return templates;
        const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        templates = Object.entries(table())
            .filter(([text]) => text.includes("{}"))
            .sort(([one], [other]) => other.replaceAll("{}", "").length - one.replaceAll("{}", "").length)
            .map(([text, into]) => [pattern(text.split("{}").map(literal)), into]);
        return templates;
    }

    function filled(into, parts) {
        let next = 0;
        return into.replace(/\{(\d*)\}/g, (_, place) => parts[place === "" ? next++ : Number(place)] ?? "");
    }

    // Several told in one text: figures between dots, a label and what is said of it, sentence after sentence, a list.
    const JOINTS = [/((?:^|\s)·\s)/, /((?<=[.!?…])\s+(?=\S))/, /(:\s)/, /(;\s)/, /(,\s)/];

    const remembered = new Map();
    function translated(text) {
        if (!remembered.has(text)) {
            if (remembered.size > 5000) remembered.clear();
            remembered.set(text, translate(text));
        }
        return remembered.get(text);
    }

    function translate(text) {
        const timed = text.match(/^(\d\d:\d\d:\d\d )(.+)$/s);  // a line of the log
        if (timed) return timed[1] + translated(timed[2]);
        const bare = text.trim();
        if (!bare || !/[A-Za-z]/.test(bare)) return text;
        const whole = table()[bare];
        if (whole !== undefined) return text.replace(bare, () => whole);
        for (const [form, into] of known()) {
            const found = bare.match(form);
            if (found) return text.replace(bare, () => filled(into, found.slice(1).map(translated)));
        }
        const labelled = text.match(/^(\s*)([^:]+)(: )(.*)$/s);
        if (labelled && /^[a-z_]+(\.[a-z_]+)+$/.test(labelled[2])) return labelled[1] + labelled[2] + labelled[3] + translated(labelled[4]);  // a setting
        if (labelled && table()[labelled[2]] !== undefined) return labelled[1] + table()[labelled[2]] + labelled[3] + translated(labelled[4]);
        for (const joint of JOINTS) {
            const parts = text.split(joint);
            if (parts.length < 2) continue;
            const told = parts.map((part) => (joint.test(part) ? part : translated(part)));
            if (told.some((part, place) => part !== parts[place])) return told.join("");
        }
        return text;
    }

    window.finetuneTranslated = translated;  // for questions, which stand in no node

    function translateUnder(node) {
        if (node.nodeType === Node.TEXT_NODE) {
            const parent = node.parentElement?.nodeName;
            if (parent === "TEXTAREA" || parent === "SCRIPT" || parent === "STYLE" || parent === "CODE") return;
            const told = translated(node.textContent);
            if (told !== node.textContent) node.textContent = told;
        } else if (node.nodeType === Node.ELEMENT_NODE) {
            if (node.getAttribute("translate") === "no") return;
            for (const name of TOLD) {
                const text = node.getAttribute(name);
                const told = text && translated(text);
                if (told && told !== text) node.setAttribute(name, told);
            }
            node.childNodes.forEach(translateUnder);
        }
    }

    function start() {
        const root = gradioApp().querySelector(ROOT);
        if (!root || !Object.keys(table()).length) return;
        translateUnder(root);
        new MutationObserver((changes) => {
            for (const change of changes) {
                if (change.type === "characterData") translateUnder(change.target);
                else change.addedNodes.forEach(translateUnder);
            }
        }).observe(root, {childList: true, subtree: true, characterData: true});
    }

    if (typeof onUiLoaded === "function") onUiLoaded(start);
})();
