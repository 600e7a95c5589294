"""What can be asked, in a few lines."""

HELP = """I answer questions about this capture and the documents in the knowledge base. For example:
- Is everything ok? What is wrong with the controller? Why does it not answer?
- Since when? Is it still going on? Which others are affected? What changed?
- Who talks to it, asks it, writes to it, refuses it, scans it? What does it do? How many, how often, how fast?
- Is it an attack or a fault? Is it a matter for security? How sure are you? What speaks against it?
- What should I check first? What does the manual say? Has it happened before? What is exception 2?
- Show the numbers. Show the packets. Which devices are there? Who is responsible for it? List the incidents.
- Mark as false alarm because of a test. Acknowledge. Shelve for two hours because of maintenance. More.
I only read: nothing is sent to the network, nothing is changed on a device."""
