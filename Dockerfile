# The package with its workflow and the versions of the lock. Results, and a configuration of your own, are in /work:
#
#   docker build -t dode .
#   docker run --rm -it -v "$PWD:/work" --user "$(id -u):$(id -g)" dode demo
#
# With CUDA, whose libraries PyPI's build of torch for Linux brings; the machine needs NVIDIA's driver and container toolkit:
#
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t dode:cuda .
#   docker run --rm -it --gpus all -v "$PWD:/work" --user "$(id -u):$(id -g)" dode:cuda run config/mine.yaml
#
# With `--build-arg LOCK=requirements-dev.lock` it has the packages of all extras too, for models of the hub and pipelines.
FROM python:3.11-slim-bookworm
ARG LOCK=requirements.lock
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /source
COPY requirements.lock requirements-dev.lock pyproject.toml ./
# A mount's user has no name and no home in here. Snakemake asks for the name; caches go beside the results.
ENV USER=dode HOME=/work MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/work/.cache
RUN python -m pip install --require-hashes --no-deps --requirement "$LOCK"
# torch and torchvision are not in the lock, as every platform has other builds; their pins are those of pyproject.toml.
RUN python -c 'import tomllib; \
    pins = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
    print(*(pin for pin in pins if pin.startswith(("torch==", "torchvision=="))), sep="\n")' > torch.txt \
    && python -m pip install --index-url "$TORCH_INDEX" --requirement torch.txt
COPY . .
RUN python -m pip install --no-deps . && rm -rf /source
WORKDIR /work
ENTRYPOINT ["python", "-m", "dode"]
CMD ["--help"]
