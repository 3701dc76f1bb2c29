from setuptools import setup

name = "siamtrack_ros"
setup(
    name=name,
    version="0.2.0",
    packages=[name],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{name}"]),
        (f"share/{name}", ["package.xml"]),
        (f"share/{name}/launch", ["launch/follow.launch.py"]),
        (f"share/{name}/config", ["config/follow.yaml"]),
    ],
    install_requires=["setuptools", "siamtrack"],
    entry_points={"console_scripts": ["follow = siamtrack_ros.node:main"]},
    license="MIT",
)
