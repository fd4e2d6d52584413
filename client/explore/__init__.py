"""The latent explorer: a page in the browser over the SDK, served to this machine alone.

`app.py` puts the panels together, and `page_server.py` answers the browser. The panels, `sliders.py` and `guard.py`
are what knows Gradio; `explorer.py` and all below it do not.
"""
