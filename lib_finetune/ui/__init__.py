"""The tab: the only place that knows gradio."""
