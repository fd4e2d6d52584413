"""The served models: which there are, and how they are loaded, replaced and unloaded."""
