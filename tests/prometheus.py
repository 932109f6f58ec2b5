"""The file that node_exporter reads, as tests look at it."""

from prometheus_client.parser import text_string_to_metric_families


def read(path):
    """Return the figures in a file, by name and labels but for those that all have."""
    families = text_string_to_metric_families(path.read_text())
    common = ("project", "pipeline")
    return {
        (
            sample.name,
            *(value for label, value in sorted(sample.labels.items()) if label not in common),
        ): sample.value
        for family in families
        for sample in family.samples
    }
