"""From folders of footage to training clips and their manifests.

In processing order: `collections` describes the layout of a public data set, `watch` tracks the
faces of one video, `spans` cuts tracks into clips, `framing` chooses the crop, `checks` filters,
`cutting` writes the clips, `outcome` is the result of one source, `engine` distributes the work,
`dataset` keeps the on-disk state, `inspection` renders it as a page; `motion` extracts latents for
stage 2.
"""
