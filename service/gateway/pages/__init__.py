"""The gateway's own pages: one design, in the reader's language, with the operator's brand."""
