#!/usr/bin/env bash
# Rank correlations over whole spaces: bash benchmarks/quality.sh DATA [NAS]
#
# DATA holds the tables (nats_tss.csv.gz, transnas_micro.csv.gz, nasbench101_500.csv.gz); NAS is the
# command, `nas` by default. ONLY=tss (a regular expression) runs just the results of that name.
# Writes benchmarks/results/*.json; benchmarks/render.py puts them into benchmarks/README.md. Ten
# minutes on two cores, most of them for the reference readings, one network at a time. A result over
# several columns holds one report per column: the proxies score once for all of them.
set -euo pipefail
data=$1
nas=${2:-nas}
results=$(cd "$(dirname "$0")" && pwd)/results
mkdir -p "$results"
cd "$data"  # so that the results name the tables by their own names

rank() { # NAME then the arguments of `nas rank`
    local name=$1
    shift
    [[ $name =~ ^(${ONLY:-.*})$ ]] || return 0
    echo "== $name: nas rank $*" >&2
    "$nas" rank --quiet --seed 0 --json - "$@" >"$results/$name.json"
}

tss=nats_tss.csv.gz:c10_test_200,c100_test_200,in16_test_200
rank tss --space nats_tss --proxy meco,meco_opt,sed --truth "$tss"
rank tss_reference --space nats_tss --sample 1000 \
    --proxy "meco:hooks=reference" --proxy "meco_opt:hooks=reference" --proxy meco --proxy meco_opt \
    --truth "$tss"
rank tss_image_c10 --space nats_tss --sample 1000 --images cifar10_lossless_subset.npz \
    --proxy meco --proxy meco_opt --truth "nats_tss.csv.gz:c10_test_200"
# Which maps MeCo hears was chosen on the even half of the topology space and is reported on the odd.
for half in even odd; do
    rank "choice_$half" --space nats_tss --half "$half" \
        --proxy "meco:hooks=relu" --proxy "meco:hooks=conv" \
        --proxy "meco_opt:hooks=relu" --proxy "meco_opt:hooks=conv" \
        --truth "$tss"
done
rank transnas --space transnas_micro --proxy meco,meco_opt,sed \
    --truth transnas_micro.csv.gz:class_object,class_scene
rank nb101 --space nasbench101 --proxy sed --truth "nasbench101_500.csv.gz:acc"
