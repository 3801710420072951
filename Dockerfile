# The bridge as an image: `docker build -t opusagent .`, then
# `docker run -p 8765:8765 -p 8766:8766 -e BRIDGE_TOKEN=... --stop-timeout 35 opusagent`

FROM python:3.13-slim AS builder
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY opusagent ./opusagent
COPY config ./config
RUN python -m venv /opt/opusagent
# encryption: sealed sessions; tools: agents with tools over HTTP or from MCP servers.
RUN /opt/opusagent/bin/pip install --no-cache-dir ".[encryption,tools]"
# What only installing needed stays behind.
RUN /opt/opusagent/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin opusagent
WORKDIR /app
COPY --from=builder /opt/opusagent /opt/opusagent
COPY config ./config
ENV PATH=/opt/opusagent/bin:$PATH PYTHONUNBUFFERED=1 ADMIN_HOST=0.0.0.0
USER opusagent
EXPOSE 8765 8766
# Alive, not ready: a bridge that drains or is full must not be restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"ADMIN_PORT\", 8766)}/healthz', timeout=2)"]
CMD ["python", "-m", "opusagent", "serve"]
