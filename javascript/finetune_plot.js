// The loss curves, drawn by uPlot (third_party/), which is loaded at the first plot; what is new comes from a route of ours.
(function () {
    const page = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const HEIGHT = 260;
    const OWN = document.currentScript?.src || "";
    let library = null;
    let shown = null;  // {job, holder, plot, step, line, raw, smooth, validation, snapshots}
    let asking = false;

    // In the WebUI beside this script, by its file= address; in the page of its own by a route.
    function folder() {
        const script = OWN || [...document.querySelectorAll("script[src]")].map((one) => one.src).find((one) => one.includes("finetune_plot.js")) || "";
        return script.includes("/javascript/finetune_plot.js") ? script.slice(0, script.indexOf("finetune_plot.js")) + "third_party/" : "finetune/third_party/";
    }
    function load() {
        library = library || new Promise((take, fail) => {
            const style = document.createElement("link");
            style.rel = "stylesheet";
            style.href = `${folder()}uPlot.min.css`;
            const script = document.createElement("script");
            script.src = `${folder()}uPlot.iife.min.js`;
            script.onload = () => take(window.uPlot);
            script.onerror = () => {
                library = null;
                fail(new Error("uPlot could not be loaded"));
            };
            document.head.append(style, script);
        });
        return library;
    }

    const colour = (name, other) => getComputedStyle(page().querySelector("#finetune_root") || document.body).getPropertyValue(name).trim() || other;
    const number = (value) => (value === null || value === undefined ? "–" : value.toPrecision(3));

    function marks(plot) {
        plot.root.querySelectorAll(".finetune-mark").forEach((mark) => mark.remove());
        const [low, high] = [plot.scales.x.min, plot.scales.x.max];
        for (const step of shown?.snapshots || []) {
            if (step < low || step > high) continue;
            const mark = document.createElement("button");
            mark.type = "button";
            mark.className = "finetune-mark";
            mark.style.left = `${plot.valToPos(step, "x")}px`;
            mark.title = `snapshot of step ${step}`;
            mark.setAttribute("aria-label", mark.title);
            mark.addEventListener("click", () => pick(step));
            plot.over.append(mark);
        }
    }
    // A snapshot's mark leads to its file, and to its previews.
    function pick(step) {
        for (const chosen of page().querySelectorAll("#finetune_root [data-step]")) chosen.classList.toggle("finetune-chosen", Number(chosen.dataset.step) === step);
        (page().querySelector(`.finetune-points [data-step="${step}"]`) || page().querySelector(`.finetune-film [data-step="${step}"]`))?.scrollIntoView({block: "nearest"});
    }

    function options(width) {
        const [text, grid, accent] = [colour("--body-text-color", "#333"), colour("--border-color-primary", "#ddd"), colour("--color-accent", "#f97316")];
        const whole = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
        const axis = {stroke: text, grid: {stroke: grid, width: 1}, ticks: {stroke: grid, width: 1}};
        const value = (_, point) => number(point);
        return {
            width: width,
            height: HEIGHT,
            cursor: {drag: {x: true, y: false}},
            scales: {x: {time: false}},
            axes: [{...axis, label: "step", labelSize: 18, incrs: whole}, {...axis, label: "loss", labelSize: 18, size: 62}],
            series: [
                {label: "step", value: (_, point) => (point === null ? "–" : String(point))},
                {label: "each step", stroke: accent + "66", width: 1, points: {show: false}, value: value},
                {label: "smoothed", stroke: accent, width: 2, points: {show: false}, value: value},
                {label: "validation images", stroke: text, width: 2, dash: [6, 4], spanGaps: true, points: {show: true, size: 6, fill: text}, value: value},
            ],
            hooks: {draw: [marks]},
        };
    }

    // Columns over the steps of all three; where one has no point it has null.
    function table() {
        const steps = [...new Set([...shown.raw.keys(), ...shown.validation.keys()])].sort((one, other) => one - other);
        const column = (points) => steps.map((step) => points.get(step) ?? null);
        return [steps, column(shown.raw), column(shown.smooth), column(shown.validation)];
    }

    async function draw() {
        const canvas = shown.holder.querySelector(".finetune-plot-canvas");
        const empty = shown.holder.querySelector(".finetune-plot-empty");
        empty.hidden = shown.raw.size > 1;
        if (shown.raw.size < 2) return;
        const now = shown;
        let Plot;
        try {
            Plot = await load();
        } catch {
            empty.textContent = "The loss curve cannot be drawn: its script could not be loaded. Reload the page.";
            empty.hidden = false;
            return;
        }
        if (now !== shown || !canvas.clientWidth) return;
        // Single spikes must not flatten the curve: the highest two in a hundred may leave the frame.
        const values = [...shown.raw.values()].sort((one, other) => one - other);
        const top = Math.max(values[Math.floor(0.98 * (values.length - 1))], ...shown.validation.values(), values[0] + 1e-6);
        const low = Math.min(values[0], ...shown.validation.values());
        const range = [low - 0.05 * (top - low), top + 0.05 * (top - low)];
        if (!shown.plot) {
            const given = options(canvas.clientWidth);
            given.scales.y = {range: () => shown.range};
            shown.range = range;
            shown.plot = new Plot(given, table(), canvas);
        } else {
            shown.range = range;
            shown.plot.setData(table());
        }
        if (shown.plot.width !== canvas.clientWidth) shown.plot.setSize({width: canvas.clientWidth, height: HEIGHT});
    }

    function write(lines) {
        const part = page().querySelector("#finetune_plot .finetune-log-part");
        const log = part?.querySelector(".finetune-log");
        if (!log || !lines.length) return;
        for (const line of lines) {
            const row = document.createElement("div");
            row.textContent = line;
            log.prepend(row);
        }
        part.querySelector(".finetune-last-line").textContent = lines.at(-1);
    }

    async function ask() {
        const holder = page().querySelector("#finetune_plot .finetune-plot");
        if (!holder) {
            shown = null;
            return;
        }
        if (!shown || shown.holder !== holder) {
            if (shown?.plot) shown.plot.destroy();
            const log = page().querySelector("#finetune_plot .finetune-log");
            if (log) log.replaceChildren();
            shown = {job: holder.dataset.job, holder: holder, plot: null, step: -1, line: 0, raw: new Map(), smooth: new Map(), validation: new Map(), snapshots: [], ended: false};
        }
        const over = page().querySelector("#finetune_panel .finetune-status")?.dataset.ended === "true";
        if (shown.ended && over) {
            const canvas = holder.querySelector(".finetune-plot-canvas");
            if (shown.raw.size > 1 && canvas.clientWidth && (!shown.plot || shown.plot.width !== canvas.clientWidth)) await draw();
            return;
        }
        const now = shown;
        const answer = await fetch(`${holder.dataset.series}&step=${now.step}&line=${now.line}`);
        if (!answer.ok || now !== shown) return;
        const told = await answer.json();
        for (const [step, loss] of told.losses) now.raw.set(step, loss);
        for (const [step, loss] of told.smooth) now.smooth.set(step, loss);
        now.validation = new Map(told.validation);
        now.snapshots = told.snapshots;
        now.step = Math.max(now.step, told.step);
        now.line = told.line;
        now.ended = told.ended;
        write(told.log);
        await draw();
    }

    window.addEventListener("resize", () => { if (shown?.plot) void draw(); });
    function watchTheme() {  // another one has other colours
        new MutationObserver(() => {
            if (!shown?.plot) return;
            shown.plot.destroy();
            shown.plot = null;
            void draw();
        }).observe(document.body, {attributes: true, attributeFilter: ["class"]});
    }
    // The WebUI runs this in the page's head, when there is no body yet.
    if (document.body) watchTheme();
    else document.addEventListener("DOMContentLoaded", watchTheme);

    async function tick() {
        const place = page().querySelector("#finetune_panel");
        if (asking || document.hidden || !place || place.offsetParent === null) return;
        asking = true;
        try {
            await ask();
        } catch {
            // asked again in a second: the server may be starting
        } finally {
            asking = false;
        }
    }
    setInterval(tick, 1000);
    // Another run that is chosen is drawn at once.
    const waiting = setInterval(() => {
        const part = page().querySelector("#finetune_plot");
        if (!part) return;
        clearInterval(waiting);
        new MutationObserver(() => {
            if (part.querySelector(".finetune-plot") !== (shown?.holder || null)) void tick();
        }).observe(part, {childList: true, subtree: true});
    }, 1000);
})();
