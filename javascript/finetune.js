// The tab asks for its status once a second while it is looked at: by plain requests, for a stream that gradio keeps open
// is never ended when the page goes away, and then the WebUI's "Reload UI" waits for it for ever.
(function () {
    setInterval(() => {
        const panel = gradioApp().querySelector("#finetune_panel");
        const button = gradioApp().querySelector("#finetune_refresh");
        if (!button || !panel || panel.offsetParent === null || document.hidden) return;
        button.click();
    }, 1000);
})();
