"""From folders of footage to clips that nets learn from, and the list that names them.

In the order of the flow: `collections` says what a folder holds, `watch` looks at one video,
`spans` cuts it into parts of one face, `framing` says what of the picture to keep, `checks` judges,
`cutting` writes, `outcome` says what became of it, `engine` spreads the work, `dataset` keeps the
books, `inspection` shows them; `motion` is what stage 2 reads of it all.
"""
