return undefined.field
