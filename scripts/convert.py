"""Read a published checkpoint, executing nothing in it, and write it as safetensors."""

from dode import checkpoints
from dode.benchmark import scripting


def main(snakemake):
    checkpoints.convert(snakemake.input[0], snakemake.output[0], **snakemake.params.reading)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
