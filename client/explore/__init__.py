"""The latent explorer: a web page on top of the SDK, served to this machine only.

`app.py` builds the page from the panels, and `page_server.py` serves it. Only these, `sliders.py` and
`guard.py` import Gradio.
"""
