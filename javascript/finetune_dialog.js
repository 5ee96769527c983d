// One dialog shows all images large, the same in the WebUI and in the page of its own: left, right, Escape.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    let dialog = null;
    let group = [];
    let place = 0;

    function made() {
        if (dialog?.isConnected) return dialog;
        dialog = document.createElement("dialog");
        dialog.className = "finetune-dialog";
        dialog.setAttribute("aria-label", "image");
        dialog.innerHTML = '<div class="finetune-dialog-head"><span class="finetune-dialog-title"></span>'
            + '<button type="button" class="finetune-dialog-close" aria-label="close">✕</button></div>'
            + '<div class="finetune-dialog-body"><button type="button" class="finetune-dialog-left" aria-label="the image before">‹</button>'
            + '<img alt=""><button type="button" class="finetune-dialog-right" aria-label="the next image">›</button></div>'
            + '<div class="finetune-dialog-foot"></div>';
        dialog.querySelector(".finetune-dialog-close").addEventListener("click", leave);
        dialog.querySelector("img").addEventListener("click", (event) => { if (!event.target.closest(".finetune-mask-stage")) inFull(!dialog.classList.contains("finetune-dialog-full")); });
        dialog.querySelector(".finetune-dialog-left").addEventListener("click", () => step(-1));
        dialog.querySelector(".finetune-dialog-right").addEventListener("click", () => step(1));
        dialog.addEventListener("click", (event) => { if (event.target === dialog) leave(); });
        dialog.addEventListener("cancel", (event) => { if (!mayLeave()) event.preventDefault(); });
        dialog.addEventListener("finetune-renew", () => { renewed(); show(); showRenewed(20); });
        dialog.addEventListener("keydown", (event) => {
            event.stopPropagation();  // the WebUI has keys of its own
            if (event.defaultPrevented) return;
            if (event.target.matches("textarea, input")) return;
            if (event.key === "ArrowLeft") step(-1);
            if (event.key === "ArrowRight") step(1);
        });
        (page().querySelector("#finetune_root") || document.body).append(dialog);
        return dialog;
    }

    // What is in the dialog may have something to lose (a mask that is not saved): it is asked before the image goes.
    function mayLeave() {
        return dialog.dispatchEvent(new CustomEvent("finetune-leave", {cancelable: true, bubbles: true}));
    }
    function leave() {
        if (mayLeave()) dialog.close();
    }

    // Of a group that was made anew meanwhile, the images that stand there now.
    function renewed() {
        if (!group.length || group[place].isConnected) return;
        const now = [...page().querySelectorAll(`.finetune-picture[data-group="${group[place].dataset.group}"]`)];
        const same = now.findIndex((each) => each.dataset.title === group[place].dataset.title);
        if (same < 0) return;
        group = now;
        place = same;
    }

    // The image as it is now, once the tiles are made anew; what is written below it stays.
    function showRenewed(times) {
        if (!group[place]?.isConnected) {
            renewed();
            if (!dialog.querySelector(".finetune-mask-stage")) dialog.querySelector("img").src = group[place].dataset.full;
        } else if (times && dialog.open) {
            setTimeout(() => showRenewed(times - 1), 300);
        }
    }

    // An image that is larger than the dialog is shown pixel by pixel at a click, to be scrolled, and as a whole at the next.
    function inFull(full) {
        dialog.classList.toggle("finetune-dialog-full", full);
    }

    function step(by) {
        if (group.length < 2 || !mayLeave()) return;
        renewed();
        place = (place + by + group.length) % group.length;
        show();
    }

    function show() {
        const picture = group[place];
        const image = dialog.querySelector("img");
        inFull(false);
        image.src = picture.dataset.full;
        image.alt = picture.querySelector("img")?.alt || "";
        const title = picture.dataset.title || image.alt;
        dialog.querySelector(".finetune-dialog-title").textContent = group.length > 1 ? `${title} (${place + 1}/${group.length})` : title;
        for (const side of ["left", "right"]) dialog.querySelector(`.finetune-dialog-${side}`).hidden = group.length < 2;
        dialog.querySelector(".finetune-dialog-foot").replaceChildren(...about(picture));
        dialog.dispatchEvent(new CustomEvent("finetune-shown", {bubbles: true, detail: picture}));
    }

    // Of a training image: its caption, to be edited here too; of it and of a comparison grid what is to be known of it.
    function about(picture) {
        const tile = picture.closest(".finetune-tile, .finetune-item");
        const caption = tile?.querySelector(".finetune-caption");
        const details = tile?.querySelector(".finetune-details");
        if (!details) return [];
        const parts = [details.cloneNode(true)];
        if (caption) {
            const field = caption.cloneNode(true);
            field.value = caption.value;
            field.rows = 3;
            field.addEventListener("input", () => { caption.value = field.value; });
            parts.unshift(field);
        }
        return parts;
    }

    document.addEventListener("click", (event) => {
        const picture = event.target.closest?.(".finetune-picture[data-full]");
        if (!picture) return;
        event.preventDefault();
        const within = picture.closest("#finetune_root") || document;
        group = [...within.querySelectorAll(".finetune-picture[data-full]")].filter((each) => each.dataset.group === picture.dataset.group);
        place = Math.max(0, group.indexOf(picture));
        made();
        show();
        if (!dialog.open) dialog.showModal();
    });

    // Text for the person to take along: into the clipboard, and where that is closed (a page without https) into a field to copy from.
    async function offer(text, button) {
        try {
            await navigator.clipboard.writeText(text);
            const label = button.textContent;
            button.textContent = "Copied";
            setTimeout(() => { button.textContent = label; }, 2000);
        } catch {
            made();
            group = [];
            dialog.querySelector("img").removeAttribute("src");
            dialog.querySelector(".finetune-dialog-title").textContent = "Copy this text";
            for (const side of ["left", "right"]) dialog.querySelector(`.finetune-dialog-${side}`).hidden = true;
            const field = document.createElement("textarea");
            field.className = "finetune-field";
            field.rows = 20;
            field.value = text;
            dialog.querySelector(".finetune-dialog-foot").replaceChildren(field);
            if (!dialog.open) dialog.showModal();
            field.select();
        }
    }

    document.addEventListener("click", async (event) => {
        const button = event.target.closest?.(".finetune-report");
        if (!button) return;
        try {
            const answer = await fetch(button.dataset.report);
            if (!answer.ok) throw new Error(String(answer.status));
            await offer(await answer.text(), button);
        } catch {
            button.textContent = "The report could not be fetched. Reload the page.";
        }
    });

    // A card whose image is not there (any more) shows its ground.
    document.addEventListener("error", (event) => {
        if (event.target.matches?.("#finetune_root img")) event.target.classList.add("finetune-missing");
    }, true);
})();
