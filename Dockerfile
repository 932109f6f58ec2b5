# Build: docker build -t mnist-vae --build-arg COMMIT=$(git rev-parse HEAD) .
# Run:   docker run --rm -v mnist-vae-data:/app/data mnist-vae
#        docker run --rm -v mnist-vae-data:/app/data mnist-vae roll-back --env prod
FROM python:3.13-slim AS build
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
RUN pip wheel --no-cache-dir --no-deps --wheel-dir dist . && rm -rf conf/local
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv install --no-cache-dir -c constraints.txt dist/*.whl

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home kedro
COPY --from=build /opt/venv /opt/venv
COPY --from=build /build/conf /app/conf
WORKDIR /app
RUN mkdir data && chown kedro:kedro data
# There is no git in the image; manifests name the commit all the same.
ARG COMMIT
ENV PATH=/opt/venv/bin:$PATH MNIST_VAE_COMMIT=$COMMIT
USER 10001:10001
VOLUME /app/data
ENTRYPOINT ["mnist-vae"]
CMD ["retrain", "--env", "prod"]
