"""What must hold in a curriculum beyond the shape of its fields, one file a concern, each with `findings(data)`.

The checks read plain data, not the typed spec, so that they speak even where another field is wrong: a person
sees everything at once. What has the wrong type is passed over here; the spec reports it.
"""
