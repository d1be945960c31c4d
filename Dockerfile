# The library with the packages that its tests ran with, on the CPU:
#   docker build -t jigclu_jax .
#   docker run --rm -v "$PWD/runs:/data/runs" jigclu_jax demo
FROM python:3.12-slim

WORKDIR /opt/jigclu_jax
COPY requirements/lock-py312.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/lock-py312.txt
COPY pyproject.toml setup.py README.md LICENSE requirements.txt ./
COPY requirements requirements
COPY configs configs
COPY jigclu_jax jigclu_jax
RUN pip install --no-cache-dir --no-deps .

WORKDIR /data
ENTRYPOINT ["jigclu"]
CMD ["--help"]
