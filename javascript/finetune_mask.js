// The mask of a training image, painted in its dialog: what is painted shows what is taught, what is left out lies under a tint.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const UNDONE = 20;
    const TINT = "rgba(200, 0, 80, 0.55)";
    let painting = null;

    function element(kind, properties, ...children) {
        const made = Object.assign(document.createElement(kind), properties);
        made.append(...children);
        return made;
    }

    function query(address, values) {
        const [path, before] = address.split("?");
        return `${path}?${new URLSearchParams([...new URLSearchParams(before), ...Object.entries(values)])}`;
    }
    const imageOf = (address) => address.replace("?", "/image?");

    function loaded(address) {
        return new Promise((take, fail) => {
            const image = new Image();
            image.onload = () => take(image);
            image.onerror = () => fail(new Error("The mask could not be fetched. Is the server still running?"));
            image.src = address;
        });
    }

    async function asked(address, options) {
        let answer;
        try {
            answer = await fetch(address, options);
        } catch {
            throw new Error("The server does not answer. What is painted stays here; try again when it runs.");
        }
        const told = await answer.json().catch(() => ({}));
        if (answer.ok) return told;
        if (answer.status === 401 || answer.status === 403) throw new Error("This page is not signed in any more. Reload the page.");
        const said = Array.isArray(told.detail) ? told.detail.map((one) => one.message).join(" ") : "";
        throw new Error(said || "The mask could not be saved. The console has the details.");
    }

    // -- the canvas -------------------------------------------------------------------------------------------------------

    // `mask` holds the mask itself, white on black; `shown` lies on the image and is the tint of what is left out.
    function canvases(image) {
        const mask = element("canvas", {width: image.naturalWidth, height: image.naturalHeight});
        const shown = element("canvas", {width: image.naturalWidth, height: image.naturalHeight, className: "finetune-mask-canvas", tabIndex: 0});
        shown.setAttribute("role", "application");
        shown.setAttribute("aria-label", "mask; the arrow keys move the brush, Space paints");
        mask.getContext("2d", {willReadFrequently: true}).drawImage(image, 0, 0);
        return {mask, shown};
    }

    // What was painted, as alpha: white becomes opaque.
    function opaque(mask) {
        const copy = element("canvas", {width: mask.width, height: mask.height});
        const pen = copy.getContext("2d");
        const pixels = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height);
        for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
        pen.putImageData(pixels, 0, 0);
        return copy;
    }

    function showAll() {
        const {mask, shown} = painting;
        const pen = shown.getContext("2d");
        pen.globalCompositeOperation = "copy";
        pen.fillStyle = TINT;
        pen.fillRect(0, 0, shown.width, shown.height);
        pen.globalCompositeOperation = "destination-out";
        pen.drawImage(opaque(mask), 0, 0);
        pen.globalCompositeOperation = "source-over";
    }

    // One piece of a stroke, on the mask and at once on what is shown.
    function draw(from, to) {
        const {mask, shown, erase, size} = painting;
        const width = size * mask.width / shown.getBoundingClientRect().width;
        for (const [canvas, style, mode] of [
            [mask, erase ? "#000" : "#fff", "source-over"],
            [shown, erase ? TINT : "#000", "destination-out"],
            ...(erase ? [[shown, TINT, "source-over"]] : []),
        ]) {
            const pen = canvas.getContext("2d");
            pen.globalCompositeOperation = mode;
            pen.strokeStyle = canvas === shown && mode === "destination-out" ? "#000" : style;
            pen.lineWidth = width;
            pen.lineCap = pen.lineJoin = "round";
            pen.beginPath();
            pen.moveTo(...from);
            pen.lineTo(to[0] + 0.01, to[1]);  // of a line without length nothing is drawn
            pen.stroke();
            pen.globalCompositeOperation = "source-over";
        }
    }

    function remember() {
        const {mask, before} = painting;
        const copy = element("canvas", {width: mask.width, height: mask.height});
        copy.getContext("2d").drawImage(mask, 0, 0);
        before.push(copy);
        if (before.length > UNDONE) before.shift();
        painting.changed = true;
        told("");
    }

    function undo() {
        const copy = painting.before.pop();
        if (!copy) return told("There is nothing to undo.");
        painting.mask.getContext("2d").drawImage(copy, 0, 0);
        showAll();
    }

    function fill(change) {
        remember();
        const pen = painting.mask.getContext("2d");
        pen.globalCompositeOperation = change === "invert" ? "difference" : "source-over";
        pen.fillStyle = change === "invert" ? "#fff" : "#000";
        pen.fillRect(0, 0, painting.mask.width, painting.mask.height);
        pen.globalCompositeOperation = "source-over";
        showAll();
    }

    // -- hand and keys ----------------------------------------------------------------------------------------------------

    function placeOf(event) {
        const box = painting.shown.getBoundingClientRect();
        return [(event.clientX - box.left) * painting.mask.width / box.width, (event.clientY - box.top) * painting.mask.height / box.height];
    }

    function cursor(x, y) {
        const {shown, ring, size} = painting;
        const box = shown.getBoundingClientRect();
        const around = shown.parentElement.getBoundingClientRect();
        Object.assign(ring.style, {width: `${size}px`, height: `${size}px`, left: `${box.left - around.left + x - size / 2}px`, top: `${box.top - around.top + y - size / 2}px`});
        ring.hidden = false;
    }

    function listen(canvas) {
        let last = null;
        canvas.addEventListener("pointerdown", (event) => {
            if (event.button !== 0) return;
            event.preventDefault();
            canvas.focus({preventScroll: true});
            canvas.setPointerCapture(event.pointerId);
            remember();
            last = placeOf(event);
            draw(last, last);
        });
        canvas.addEventListener("pointermove", (event) => {
            const box = canvas.getBoundingClientRect();
            cursor(event.clientX - box.left, event.clientY - box.top);
            if (!last) return;
            for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
                const next = placeOf(part);
                draw(last, next);
                last = next;
            }
        });
        for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
        canvas.addEventListener("pointerleave", () => { painting.ring.hidden = true; });
        canvas.addEventListener("keydown", (event) => onKey(event, canvas));
    }

    const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    function onKey(event, canvas) {
        const box = canvas.getBoundingClientRect();
        painting.at = painting.at || [box.width / 2, box.height / 2];
        const scale = painting.mask.width / box.width;
        const here = () => painting.at.map((value) => value * scale);
        if (ARROWS[event.key]) {
            const [x, y] = ARROWS[event.key];
            const by = Math.max(4, painting.size / 2);
            painting.at = [Math.min(box.width, Math.max(0, painting.at[0] + x * by)), Math.min(box.height, Math.max(0, painting.at[1] + y * by))];
        } else if (event.key === " ") {
            remember();
            draw(here(), here());
        } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
            undo();
        } else {
            return;
        }
        event.preventDefault();
        cursor(...painting.at);
    }

    // -- the buttons ------------------------------------------------------------------------------------------------------

    function told(text, wrong) {
        painting.said.textContent = text;
        painting.said.className = wrong ? "finetune-problems" : "finetune-mask-said";
    }

    function button(label, help, does) {
        const made = element("button", {type: "button", textContent: label, title: help});
        made.addEventListener("click", does);
        return made;
    }

    function tools(facts) {
        const pens = [["Paint", false, "what is painted shows what is taught"], ["Erase", true, "what is left out counts less"]].map(([label, erase, help]) => {
            const made = button(label, help, () => {
                painting.erase = erase;
                for (const each of pens) each.setAttribute("aria-pressed", String(each === made));
            });
            made.setAttribute("aria-pressed", String(!erase));
            return made;
        });
        const size = element("input", {type: "range", min: 4, max: 160, value: painting.size});
        size.addEventListener("input", () => { painting.size = Number(size.value); });
        return [
            ...pens,
            element("label", {className: "finetune-mask-size"}, element("span", {textContent: "Brush size"}), size),
            button("Invert", "what is left out and what is shown change places", () => fill("invert")),
            button("Clear", "nothing is painted", () => fill("clear")),
            button("Undo", "Ctrl+Z", undo),
            button("Save mask", `saved as ${facts.target}, beside the image`, save),
            ...(facts.content ? [button("Remove mask", "the file stays beside the image as .bak", takeAway)] : []),
            button("Close the brush", "what is not saved is lost", () => { if (mayLeave()) close(); }),
        ];
    }

    function question(facts) {
        if (facts.content && !facts.painted) return `${facts.target} lies there already, and it was not painted here. Replace it?`;
        if (facts.file && facts.file !== facts.target) return `This image has a mask already: ${facts.file}. It stays, and the painted one counts in its place. Save it?`;
        return "";
    }

    function localized(text) {
        return window.finetuneTranslated?.(text) ?? text;
    }

    async function change(work) {
        const now = painting;
        try {
            await work(now);
            page().querySelector("#finetune_look")?.click();  // the tile shows it
        } catch (error) {
            if (painting === now) told(error.message, true);
        }
    }

    function save() {
        change(async (now) => {
            const ask = question(now.facts);
            if (ask && !confirm(localized(ask))) return;
            const png = await new Promise((take) => { now.mask.toBlob(take, "image/png"); });
            const form = new FormData();
            form.append("files", png, "mask.png");
            const answer = await asked(query(now.address, {replaces: now.facts.content}), {method: "POST", body: form, headers: key(now)});
            now.changed = false;
            now.facts = await asked(now.address);
            if (painting !== now) return;
            now.bar.replaceChildren(...tools(now.facts));
            told(`The mask is saved as ${answer.file}.`);
        });
    }

    function takeAway() {
        change(async (now) => {
            if (!confirm(localized(`Remove ${now.facts.target}? It stays beside the image as .bak.`))) return;
            await asked(query(now.address, {replaces: now.facts.content}), {method: "DELETE", headers: key(now)});
            close();
        });
    }

    const key = (now) => ({"X-Finetune-Key": new URLSearchParams(now.address.split("?")[1]).get("key")});

    // -- in and out -------------------------------------------------------------------------------------------------------

    async function open(picture, dialog, starter) {
        const image = dialog.querySelector(".finetune-dialog-body img");
        try {
            const facts = await asked(picture.dataset.mask);
            const mask = await loaded(query(imageOf(picture.dataset.mask), {at: Date.now()}));
            if (!starter.isConnected) return;
            begin(picture, dialog, image, facts, mask);
        } catch (error) {
            starter.after(element("div", {className: "finetune-problems", textContent: error.message}));
        }
    }

    function begin(picture, dialog, image, facts, mask) {
        const bar = element("div", {className: "finetune-mask-tools"});
        const said = element("div", {className: "finetune-mask-said"});
        said.setAttribute("aria-live", "polite");
        const ring = element("span", {className: "finetune-mask-ring", hidden: true});
        const stage = element("div", {className: "finetune-mask-stage"});
        painting = {...canvases(mask), facts, bar, said, ring, image, dialog, before: [], changed: false, erase: false, size: 40, address: picture.dataset.mask};
        stage.style.aspectRatio = `${mask.naturalWidth} / ${mask.naturalHeight}`;
        stage.style.width = `min(100%, calc(58vh * ${mask.naturalWidth / mask.naturalHeight}))`;
        image.before(stage);
        stage.append(image, painting.shown, ring);
        image.src = query(picture.dataset.full, {bare: 1});  // its old mask would lie under the new one
        bar.append(...tools(facts));
        const foot = dialog.querySelector(".finetune-dialog-foot");
        foot.querySelector(".finetune-mask-start")?.remove();
        foot.prepend(element("p", {className: "finetune-mask-said", textContent: "Paint over what is taught. What stays red counts less."}), bar, said);
        listen(painting.shown);
        showAll();
        painting.shown.focus({preventScroll: true});
    }

    function close() {
        const {image, dialog, shown} = painting;
        const stage = shown.parentElement;
        painting = null;
        if (stage) stage.replaceWith(image);
        dialog.dispatchEvent(new CustomEvent("finetune-renew"));
    }

    function mayLeave() {
        return !painting?.changed || confirm(localized("The mask is not saved. Leave it?"));
    }

    document.addEventListener("finetune-leave", (event) => {
        if (!mayLeave()) event.preventDefault();
        else if (painting) painting.changed = false;
    });
    document.addEventListener("finetune-shown", (event) => {
        const picture = event.detail;
        const dialog = event.target;
        if (painting) {
            const {image, shown} = painting;
            painting = null;
            shown.parentElement?.replaceWith(image);
        }
        if (!picture.dataset.mask) return;
        const starter = button("Paint a mask", "what is painted is taught, the rest counts less", () => open(picture, dialog, starter));
        starter.className = "finetune-mask-start";
        dialog.querySelector(".finetune-dialog-foot").prepend(starter);
    });
})();
