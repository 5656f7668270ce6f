"""The settings ``execution`` of a configuration: how jobs run, never what they compute."""


def settings(execution, dataset):
    """The settings as they are for the dataset id ``dataset`` (None: for jobs of no dataset)."""
    return {**execution, **execution["datasets"].get(dataset, {})}
