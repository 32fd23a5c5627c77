"""Studies: images scored in bulk, outside the subnet. `scripts/score.py` is its front door, `scripts/mimic.py` that of
studies of models, whose images it makes.

sources   where images and prompts come from: files, tables, folders with metadata, datasets
pictures  one picture decoded: what is accepted, and why something is not
ahead     pictures decoded by threads before the device asks for them
scoring   items in, a table of scores out; a run that was cut goes on where it was
results   that table on disk, and the parts of an unfinished one
screen    what a person sees meanwhile and at the end

configuration  what a study of models is made of
folder         what lies where in such a study's folder
prompting      its prompts
series         a model's images on disk
making         all models' images, one model at a time
pipelines      models as diffusers pipelines
judging        its scores
ranking        which model is better, and how sure that is
resampling     what its intervals rest on
forecast       how far it is, and how long the rest takes
pushing        its images as a dataset on a hub

Importing this package loads nothing heavy; torch comes with the mixture.
"""
