// The tab asks for its status once a second while it is looked at: by plain requests, for a stream that gradio keeps open
// is never ended when the page goes away, and then the WebUI's "Reload UI" waits for it for ever.
(function () {
    let wasRunning = false;

    // The server has read the list of Lora files again; a Lora page that is open still shows the old one.
    function refreshLoraPages() {
        for (const tab of ["txt2img", "img2img"]) {
            gradioApp().querySelector(`#${tab}_lora_extra_refresh_internal`)?.click();
        }
    }

    setInterval(() => {
        const panel = gradioApp().querySelector("#finetune_panel");
        const button = gradioApp().querySelector("#finetune_refresh");
        if (!button || !panel) return;
        const running = panel.querySelector(".finetune-running, .finetune-waiting, .finetune-queued") !== null;
        const saved = panel.querySelector(".finetune-done, .finetune-stopped") !== null;
        if (wasRunning && saved) refreshLoraPages();
        wasRunning = running;
        // While a job runs, also when another tab is looked at: its end is to be seen there.
        if (document.hidden || (panel.offsetParent === null && !running)) return;
        button.click();
    }, 1000);
})();
