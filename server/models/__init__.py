"""The served models: their catalog, and how they are loaded, replaced and unloaded."""
