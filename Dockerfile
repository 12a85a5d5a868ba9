# kvllama on the CPU:
#   docker build -t kvllama .
#   docker run --rm -v "$PWD/results:/work/results" kvllama exp --policy random --ratio 0.5
# For CUDA see docs/install.md.
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake clang libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The image may run on another CPU than the one that built it.
ENV RUSTFLAGS="-C target-cpu=x86-64-v3"
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 libstdc++6 ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/kvllama /usr/local/bin/kvllama
WORKDIR /work
VOLUME ["/work/models", "/work/results"]
ENTRYPOINT ["kvllama"]
CMD ["--help"]
