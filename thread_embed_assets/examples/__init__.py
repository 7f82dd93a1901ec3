"""What can be done with the model, each in a file that runs by itself on the sample workspace: ``python -m`` its module.

Each takes a workspace's name with ``--workspace``: your own export's instead of the sample's.
"""
