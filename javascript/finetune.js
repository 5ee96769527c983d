// The tab asks for its status once a second while it is looked at: by plain requests, for a stream that gradio keeps open
// is never ended when the page goes away, and then the WebUI's "Reload UI" waits for it for ever.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const part = (name) => page().querySelector(`#finetune_${name}`);
    let wasRunning = false;
    let seen = false;
    let looked = "";

    function write(field, text) {
        field.value = text;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    }

    // Buttons inside our HTML: what they ask for goes through a hidden field and a hidden button, so that the page's own login holds.
    // One after the other, for all of them share the field.
    const asked = [];
    let asking = false;
    function ask(name, given, then) {
        asked.push([name, given, then]);
        if (!asking) askNext();
    }
    function askNext() {
        const field = part("action")?.querySelector("textarea, input");
        const [name, given, then] = asked.shift() || [];
        asking = Boolean(field && name);
        if (!asking) return;
        // The number makes two equal wishes differ, or gradio would not notice the second one.
        write(field, JSON.stringify({do: name, given: given, at: Date.now()}));
        setTimeout(() => {
            part("act").click();
            setTimeout(() => {
                if (then) then();
                else part("refresh")?.click();
                askNext();
            }, 400);
        }, 50);
    }

    // A button that is pressed looks so at once, until the page has its answer.
    function press(button) {
        button.classList.add("finetune-pressed");
        setTimeout(() => button.classList.remove("finetune-pressed"), 1200);
    }

    function onButton(button) {
        if (button.dataset.sure && !confirm(button.dataset.sure)) return;
        press(button);
        const {place, ...given} = JSON.parse(button.dataset.given || "{}");
        if (place) goTo(place);
        for (const field of button.closest(".finetune-asks")?.querySelectorAll("[data-field]") || []) {
            given[field.dataset.field] = field.value;
        }
        ask(button.dataset.do, given);
    }

    // The five places: the server is told which one is looked at, and makes the others when they are.
    const PLACES = ["train", "runs", "compare", "library", "tools"];
    const titles = () => [...page().querySelectorAll("#finetune_places > .tab-nav > button")];
    function goTo(place) {
        titles()[PLACES.indexOf(place)]?.click();
    }
    function placeNow() {
        return PLACES[titles().findIndex((title) => title.classList.contains("selected"))] || "train";
    }
    function tellPlace() {
        const field = part("place")?.querySelector("textarea, input");
        const place = placeNow();
        if (field && field.value !== place) {
            write(field, place);
            return true;
        }
        return false;
    }
    document.addEventListener("click", (event) => {
        if (event.target.closest?.("#finetune_places > .tab-nav > button")) setTimeout(() => { if (tellPlace()) setTimeout(() => part("refresh")?.click(), 30); }, 30);
    });
    // How many go on and wait, on the title of their place.
    function countRuns() {
        const count = page().querySelector("#finetune_bar .finetune-count");
        const title = titles()[1];
        if (!count || !title) return;
        const text = [[count.dataset.running, "▶"], [count.dataset.waiting, "+"]].filter(([number]) => number > 0).map(([number, sign]) => sign + number).join(" ");
        if (text) title.dataset.count = text;
        else delete title.dataset.count;
    }

    // An answer to a button is seen wherever the person is: above Train, and on the other places as a note at the foot.
    let answered = "";
    let toastEnds = 0;
    function showAnswer() {
        const message = part("message")?.querySelector(".finetune-note, .finetune-problems");  // without gradio's own count of seconds
        if (!message) answered = "";
        if (!message || message.innerHTML === answered) return;
        answered = message.innerHTML;
        const text = message.innerText || message.textContent.trim();
        if (!text.trim() || placeNow() === "train") return;
        let toast = page().querySelector("#finetune_toast");
        if (!toast) {
            toast = document.createElement("div");
            toast.id = "finetune_toast";
            toast.setAttribute("role", "status");
            part("root").append(toast);
        }
        toast.textContent = text.trim();
        toast.classList.add("finetune-seen");
        clearTimeout(toastEnds);
        toastEnds = setTimeout(() => toast.classList.remove("finetune-seen"), 9000);
    }

    // The end of a run is noticed: the WebUI's own sound, and the page's title until it is looked at.
    let going = "";
    let title = "";
    function noticeEnd() {
        const now = page().querySelector("#finetune_bar .finetune-going")?.dataset.job || "";
        const ended = page().querySelector("#finetune_bar .finetune-going-ended");
        if (going && !now && ended?.dataset.job === going) {
            const sound = page().querySelector("#audio_notification audio");
            if (sound) {
                if (typeof opts === "object" && opts) sound.volume = opts.notification_volume / 100 || 1;
                sound.play().catch(() => {});
            }
            if (document.hidden || !document.hasFocus()) {
                title = title || document.title;
                document.title = `${ended.dataset.state === "failed" ? "✗" : "✓"} ${ended.dataset.name} · ${title}`;
            }
        }
        going = now;
    }
    function backToTitle() {
        if (!title || document.hidden) return;
        document.title = title;
        title = "";
    }
    window.addEventListener("focus", backToTitle);
    document.addEventListener("visibilitychange", backToTitle);

    // Cards that are looked for by a word.
    document.addEventListener("input", (event) => {
        const filter = event.target.closest?.(".finetune-filter");
        if (!filter) return;
        const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        for (const item of page().querySelectorAll(filter.dataset.filters)) item.hidden = !words.every((word) => item.dataset.words.includes(word));
    });

    // Grid or list, remembered.
    function viewAs(view) {
        part("gallery")?.classList.toggle("finetune-as-list", view === "list");
        for (const button of page().querySelectorAll(".finetune-view-as")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    }
    const viewed = () => localStorage.getItem("finetune-view") || "grid";
    document.addEventListener("click", (event) => {
        const button = event.target.closest?.(".finetune-view-as");
        if (!button) return;
        localStorage.setItem("finetune-view", button.dataset.view);
        viewAs(button.dataset.view);
    });

    function choose(method) {
        page().querySelector(`#finetune_method input[value="${method}"]`)?.click();
    }

    // "Use in txt2img": the tag goes into the prompt there; without a txt2img, to the clipboard.
    function use(button) {
        const call = button.dataset.call;
        const prompt = page().querySelector("#txt2img_prompt textarea");
        if (prompt) {
            if (!prompt.value.includes(call)) write(prompt, [prompt.value.trim(), call].filter(Boolean).join(", "));
            if (typeof switch_to_txt2img === "function") switch_to_txt2img();
        } else {
            navigator.clipboard?.writeText(call);
            button.textContent = "Copied";
        }
    }

    document.addEventListener("click", (event) => {
        const target = event.target.closest?.(".finetune-do, .finetune-use, .finetune-card");
        if (!target) return;
        if (target.matches(".finetune-use")) use(target);
        else if (target.matches(".finetune-do")) onButton(target);
        else choose(target.dataset.method);
    });
    document.addEventListener("keydown", (event) => {
        const face = event.target.closest?.("[role=button].finetune-do");
        if (face && (event.key === "Enter" || event.key === " ")) {
            event.preventDefault();
            onButton(face);
        }
        const card = event.target.closest?.(".finetune-card");
        if (card && (event.key === "Enter" || event.key === " ")) {
            event.preventDefault();
            choose(card.dataset.method);
        }
    });
    // A caption is sent a while after the last key. The pictures are looked at again, for the text as it is read and its tokens, only
    // when nobody is writing any more: what is shown anew would take the cursor and what was typed meanwhile.
    const typed = new Map();
    let sending = 0;
    let stale = false;
    const writing = () => document.activeElement?.matches(".finetune-caption");
    function sendCaptions() {
        clearTimeout(sending);
        for (const [picture, text] of typed) {
            ask("caption", {picture: picture, text: text}, () => { stale = true; });
        }
        typed.clear();
    }
    function onCaption(event, wait) {
        const caption = event.target.closest?.(".finetune-caption");
        if (!caption) return;
        typed.set(caption.dataset.picture, caption.value);
        clearTimeout(sending);
        sending = setTimeout(sendCaptions, wait);
    }
    document.addEventListener("input", (event) => onCaption(event, 2000));
    document.addEventListener("change", (event) => onCaption(event, 0));
    function lookWhenWritten() {
        if (!stale || writing() || typed.size || asking) return;
        stale = false;
        part("look")?.click();
    }
    // Where the pictures were scrolled to, for when they are shown anew.
    let scrolled = 0;
    document.addEventListener("scroll", (event) => {
        if (event.target.matches?.(".finetune-tiles")) scrolled = event.target.scrollTop;
    }, true);
    function keepScrolled(gallery) {
        new MutationObserver(() => {
            const tiles = gallery.querySelector(".finetune-tiles");
            if (tiles && tiles.scrollTop !== scrolled) tiles.scrollTop = scrolled;
        }).observe(gallery, {childList: true, subtree: true});
    }

    // Files go to our own routes, in parts: so that each request is small, and how far it is can be said.
    const PART_FILES = 50;
    const PART_BYTES = 32e6;
    const SETTINGS_BYTES = 1e6;
    const HEADER_BYTES = 16e6;
    let sendingFiles = false;

    // A picture and what has its name, such as its captions, go in one part: there it is seen that they belong together.
    function partsOf(files) {
        const together = new Map();
        for (const file of files) {
            const path = pathOf(file);
            const stem = path.slice(0, path.lastIndexOf("/") + 1) + path.split("/").at(-1).split(".")[0].toLowerCase();
            together.set(stem, [...together.get(stem) || [], file]);
        }
        const parts = [];
        let size = Infinity;
        for (const group of together.values()) {
            const more = group.reduce((sum, file) => sum + file.size, 0);
            if (size + more > PART_BYTES || parts.at(-1).length + group.length > PART_FILES) {
                parts.push([]);
                size = 0;
            }
            parts.at(-1).push(...group);
            size += more;
        }
        return parts;
    }

    // A file's name, behind the folders that were dropped with it.
    const paths = new WeakMap();
    const pathOf = (file) => paths.get(file) || file.name;
    const nameOnly = (file) => {
        const empty = new File([], file.name);
        paths.set(empty, pathOf(file));
        return empty;
    };

    // What stands in the way becomes an Error whose message is for the person.
    async function send(zone, files, query) {
        const form = new FormData();
        for (const file of files) form.append("files", file, pathOf(file));
        let answer;
        try {
            const headers = {"X-Finetune-Key": zone.dataset.key};
            answer = await fetch(`${zone.dataset.to}?${new URLSearchParams(query)}`, {method: "POST", body: form, headers: headers});
        } catch {
            throw new Error("The files could not be sent. Is the server still running?");
        }
        if (answer.status === 401 || answer.status === 403) throw new Error("This page is not signed in any more. Reload the page.");
        const told = await answer.json().catch(() => ({}));
        if (answer.ok) return told;
        const said = Array.isArray(told.detail) ? told.detail.map((one) => one.message).join(" ") : "";
        throw new Error(said || "The files could not be sent. The console has the details.");
    }

    // Captions of many pictures in one file go with every part: there it is seen which pictures they are of.
    const TABLE_BYTES = 2e6;
    const isTable = (file) => /^meta.*\.jsonl?$/i.test(file.name) && file.size <= TABLE_BYTES;

    async function sendPictures(zone, dropped, show) {
        const limits = JSON.parse(zone.dataset.limits);
        const isSent = (file) => limits.endings.some((ending) => file.name.toLowerCase().endsWith(ending));
        const files = dropped.filter(isSent);
        const others = dropped.filter((file) => !isSent(file)).slice(0, limits.files / 2).map(nameOnly);  // the server says what they are
        const whole = files.reduce((sum, file) => sum + file.size, 0);
        if (files.length > limits.files || whole > limits.drop || files.some((file) => file.size > limits.file)) throw new Error(limits.said);
        const field = part("images")?.querySelector("textarea, input");
        let folder = field?.value || "";
        let done = 0;
        const leftOut = [];
        const parts = partsOf(files.filter((file) => !isTable(file)));
        const tables = parts.length > 1 ? files.filter(isTable) : [];
        for (const some of parts.length > 1 ? parts : [files]) {
            show(`${done} of ${files.length} files are sent`, done / files.length);
            const answer = await send(zone, [...some, ...tables, ...(done ? [] : others)], {into: folder});
            folder = answer.folder;
            leftOut.push(...answer.left_out);
            done += some.length + (done ? 0 : tables.length);
        }
        write(field, folder);
        show([`${done} of ${files.length} files are sent`, ...leftOut].join(" · "), 1);
        setTimeout(() => part("look")?.click(), 50);
    }

    // Of a result the header is enough, of the older forms its name; a checkpoint has gigabytes.
    async function beginning(file) {
        if (/\.(pt|ckpt)$/i.test(file.name)) return new File([], file.name);
        if (!/\.safetensors$/i.test(file.name)) return new File([file.slice(0, SETTINGS_BYTES + 1)], file.name);
        const size = file.size < 8 ? 0 : Number(new DataView(await file.slice(0, 8).arrayBuffer()).getBigUint64(0, true));
        return new File([file.slice(0, 8 + Math.min(size, HEADER_BYTES))], file.name);
    }

    async function sendSettings(zone, files, show) {
        show("The file is read", 0);
        const told = await send(zone, [await beginning(files[0])], {});
        show("", 1);
        ask("import", told);
    }

    async function sendFiles(zone, files) {
        if (sendingFiles || !files.length) return;
        sendingFiles = true;
        const input = zone.querySelector("input");
        const progress = zone.querySelector("progress");
        const said = zone.querySelector("[aria-live]");
        const show = (text, share) => {
            said.textContent = text;
            said.className = "";
            progress.value = share;
            progress.hidden = share === 1;
        };
        input.disabled = true;
        try {
            await (input.multiple ? sendPictures : sendSettings)(zone, files, show);
        } catch (error) {
            show(error.message, 1);
            said.className = "finetune-problems";
        } finally {
            sendingFiles = false;
            input.disabled = false;
            input.value = "";  // so that the same file can be chosen again
        }
    }

    // A folder's files, those of its folders too. Hidden folders stand for what is in them.
    async function filesIn(entry, root) {
        const below = entry.fullPath.slice(root.length).replace(/^\//, "");
        if (entry.isDirectory && entry.name.startsWith(".")) {
            const hidden = new File([], entry.name);
            paths.set(hidden, below);
            return [hidden];
        }
        if (entry.isFile) {
            const file = await new Promise((take, fail) => entry.file(take, fail));
            paths.set(file, below);
            return [file];
        }
        const reader = entry.createReader();
        const found = [];
        for (;;) {
            const some = await new Promise((take, fail) => reader.readEntries(take, fail));  // a hundred at a time
            if (!some.length) break;
            for (const one of some) found.push(...await filesIn(one, root));
        }
        return found;
    }

    async function onDrop(zone, data) {
        const plain = [...data.files];
        const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);  // now: they are gone after a pause
        // Of one folder the names begin in it, as where it is named; of several each begins with its folder.
        const root = entries.length === 1 && entries[0].isDirectory ? entries[0].fullPath : "";
        const lists = entries.length ? await Promise.all(entries.map((entry) => filesIn(entry, root))).catch(() => [plain]) : [plain];
        await sendFiles(zone, lists.flat());
    }

    document.addEventListener("change", (event) => {
        const zone = event.target.closest?.(".finetune-drop");
        if (zone && event.target.files) sendFiles(zone, [...event.target.files]);
    });
    for (const name of ["dragover", "dragleave", "drop"]) {
        document.addEventListener(name, (event) => {
            const zone = event.target.closest?.(".finetune-drop");
            if (!zone || !event.dataTransfer.types.includes("Files")) return;
            event.preventDefault();
            zone.classList.toggle("finetune-over", name === "dragover");
            if (name === "drop") onDrop(zone, event.dataTransfer);
        });
    }

    // The server has read the list of Lora files again; a Lora page that is open still shows the old one.
    function refreshLoraPages() {
        for (const tab of ["txt2img", "img2img"]) {
            gradioApp().querySelector(`#${tab}_lora_extra_refresh_internal`)?.click();
        }
    }

    // Once a second while the tab is looked at. While a run goes on and something else is looked at, once in five seconds, for its end is
    // to be noticed; else nothing is asked.
    const SELDOM = 5;
    let beats = 0;
    setInterval(() => {
        const root = part("root");
        const button = part("refresh");
        if (!button || !root) return;
        beats += 1;
        const running = page().querySelector("#finetune_bar .finetune-going") !== null;
        const saved = page().querySelector("#finetune_bar .finetune-going-ended[data-state=done], #finetune_bar .finetune-going-ended[data-state=stopped]");
        if (wasRunning && saved && typeof gradioApp === "function") refreshLoraPages();
        wasRunning = running;
        noticeEnd();
        const visible = !document.hidden && root.offsetParent !== null;
        if (!visible && !(running && beats % SELDOM === 0)) return;
        if (!seen && visible) {
            seen = true;
            part("first")?.click();
            keepScrolled(part("gallery"));
        }
        const captioned = part("tasks")?.querySelector("[data-look]")?.dataset.look || "";
        if (captioned && captioned !== looked) part("look")?.click();
        looked = captioned;
        lookWhenWritten();
        tellPlace();
        countRuns();
        showAnswer();
        viewAs(viewed());
        button.click();
    }, 1000);
})();
