"""Score a cell's images by their prompts."""

import numpy as np
import torch
from tqdm import tqdm

from dode import storage
from dode.benchmark import devices, execution, pipeline_ends, scripting, software
from dode.metrics import prompt_scores, scores
from dode.models.batches import Batches
from dode.pipelines import manifests


def main(snakemake):
    params, wildcards, settings = snakemake.params, snakemake.wildcards, execution.of_job(snakemake)
    own, card, device = params.scoring, params.scoring["card"], devices.device(settings["device"])
    manifests.checked(snakemake.input.model)
    how = {"card": card, "folder": manifests.folder_of(snakemake.input.model), "device": device}
    score = prompt_scores.scorers.create(card["network"]["name"], **how)
    images = storage.read_array(snakemake.input.images)
    count = len(images) // params.seeds
    texts = pipeline_ends.rows(snakemake.config["datasets"], wildcards.dataset, own, count)

    def scored(places):  # in every seed, image i is of row i
        return score(np.array(images[places.numpy()]), [texts[place % count] for place in places.tolist()])

    batches, found = Batches(settings["batch_size"]), []
    for places in tqdm(torch.arange(len(images)).split(settings["batch_size"]), desc=wildcards.card, mininterval=5):
        found.append(batches.map(scored, places).double().cpu())
    metrics = scores.prompted(prompt_scores.metric(card), np.split(torch.cat(found).numpy(), params.seeds))
    made = {"scoring": own, **software.environment(device), "code": params.code}
    made["software"] |= software.versions(["transformers"])
    storage.write_json(snakemake.output[0], {"metrics": metrics, "made": made})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
