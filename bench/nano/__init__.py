"""The drawn world: a generator of captioned pictures, the nano SD1.5 checkpoint that paints them, the judge that sees what they show."""
