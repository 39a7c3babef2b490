# DINet in a container. Not run by its authors: their machines have no Docker.
#
# With an NVIDIA GPU:
#   docker build -t dinet .
#   docker run --rm --gpus all -v "$PWD:/data" -w /data dinet --source_video_path V --driving_audio_path A
#
# CPU only, 4 GB smaller:
#   docker build -t dinet-cpu --build-arg BASE=python:3.12-slim --build-arg TORCH=cpu .
#
# Another script: docker run --rm -v "$PWD:/data" -w /data --entrypoint python dinet /app/data_processing.py --all ...
ARG BASE=nvidia/cuda:12.8.1-base-ubuntu24.04
FROM ${BASE}
ARG TORCH=cuda

# The CUDA base has no Python; the Python base has its own.
RUN if ! command -v python3 >/dev/null; then \
        apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; \
    fi
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN python3 -m venv "$VIRTUAL_ENV"

WORKDIR /app
COPY requirements.txt ./
RUN if [ "$TORCH" = cpu ]; then \
        pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu; \
    fi && pip install --no-cache-dir -r requirements.txt
COPY . .

ENTRYPOINT ["python", "/app/inference.py"]
