"""Check every backup set against its manifest, every day, without anybody doing it by hand."""
