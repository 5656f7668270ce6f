"""Encode the prompts of a dataset's images, once for all of its cells."""

from dode.benchmark import devices, execution, pipeline_ends, pipeline_jobs, scripting, software


def main(snakemake):
    params, wildcards, settings = snakemake.params, snakemake.wildcards, execution.of_job(snakemake)
    own, device = params.encoding, devices.device(settings["device"])
    texts = pipeline_ends.rows(snakemake.config["datasets"], wildcards.dataset, own, int(wildcards.images))
    encoders = pipeline_jobs.part(snakemake.input.model, "encoders", own["dtype"], device, own["length"])
    made = {"encoding": own, **software.environment(device), "code": params.code}
    pipeline_ends.write_conditions(
        snakemake.output[0],
        encoders,
        texts,
        own["negative_prompt"],
        settings["batch_size"],
        made,
        first=own["first"],
        without=own.get("without", False),
        say=scripting.announce,
    )


if __name__ == "__main__":
    scripting.execute(main, snakemake)
