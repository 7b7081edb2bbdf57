"""From a simulated shop log to recommendations, in a minute."""

from pathlib import Path

from mkmsr import ExperimentConfig, Recommender, SimulateOptions, prepare, run_experiment, simulate, statistics

run = Path("runs/quickstart")
log = simulate(SimulateOptions(sessions=2_000, items=300)).to_log()
data = prepare(log)
data.save(run / "data")
print("test sessions:", statistics(data)["test"]["sessions"])

settings = {"model": {"name": "mkm-sr", "dim": 32}, "training": {"epochs": 3, "strategy": "alternating"}}
result = run_experiment(data, ExperimentConfig.model_validate(settings), run / "mkm-sr", seed=0)
print("MKM-SR:", result.metrics["test"]["metrics"])

recommender = Recommender.load(run / "mkm-sr" / "bundle")
found = recommender.recommend([("item-00042", "click"), ("item-00007", "cart")], k=5)
for each in found.items:
    print(each.rank, each.item, recommender.attributes(each.item))
