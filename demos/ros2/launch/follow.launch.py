"""ros2 launch siamtrack_ros follow.launch.py image:=/camera/image_raw"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

PACKAGE = "siamtrack_ros"


def generate_launch_description():
    known = Path(get_package_share_directory(PACKAGE)) / "config" / "follow.yaml"
    image, parameters = LaunchConfiguration("image"), LaunchConfiguration("parameters")
    return LaunchDescription(
        [
            DeclareLaunchArgument("image", default_value="/camera/image_raw", description="topic of the images"),
            DeclareLaunchArgument("parameters", default_value=str(known), description="file of parameters"),
            Node(
                package=PACKAGE,
                executable="follow",
                name="siamtrack",
                parameters=[parameters],
                remappings=[("image", image), ("image/compressed", [image, "/compressed"])],
                output="screen",
            ),
        ]
    )
